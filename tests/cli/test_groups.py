"""``edgecr models groups``: the table of who is tied to whom."""

import json

import pytest
from typer.testing import CliRunner

from edgecr.cli import app
from edgecr.core.errors import RequestError


def run(*words):
    return CliRunner().invoke(app, ["models", "groups", *words], catch_exceptions=False)


def test_the_table_says_what_is_tied_and_what_stays():
    done = run("resnet20", "--set", "width=0.5")
    assert done.exit_code == 0
    assert "resnet20 at 32x32: 200 channels in 12 groups can be removed." in done.stdout
    assert "layer1.0: add" in done.stdout
    assert "and 7 more" in done.stdout
    assert "the model: output of the model" in done.stdout


def test_json_has_every_layer_and_reason():
    found = json.loads(run("resnet20", "--classes", "7", "--size", "16", "--json").stdout)
    assert found["input"] == [3, 16, 16]
    stream = found["groups"][0]
    assert (stream["name"], stream["channels"], stream["removable"]) == ("conv1", 16, True)
    assert len(stream["layers"]) == 10
    (head,) = (group for group in found["groups"] if not group["removable"])
    assert (head["layers"], head["channels"]) == (["linear"], 7)


def test_layers_that_stay_for_one_reason_share_a_line():
    done = run("torchvision:convnext_tiny", "--size", "32")
    assert done.stdout.count("features.7.0.block.2: layer norm takes statistics over the channels") == 1


def test_an_unknown_architecture_is_a_wrong_request():
    with pytest.raises(RequestError, match="resnet20"):
        run("resnet21")


def test_the_old_name_is_refused_with_the_new_one(edgecr):
    done = edgecr("methods", "groups", "resnet20", "--json")
    assert done.returncode == 2
    assert "`edgecr models groups`" in done.stderr
