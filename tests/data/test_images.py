"""Image files of unusual kinds: what becomes of their pixels."""

import numpy as np
import pytest
from PIL import Image

from edgecr.core.errors import FileProblem
from edgecr.data.images import decode, decode_all

SIZE = (4, 6)
LEVELS = np.array([0, 257, 32768, 65535], dtype=np.uint16)
EIGHT_BITS = [0, 1, 128, 255]


@pytest.mark.parametrize("name", ["grey.png", "grey.tif"])
def test_sixteen_bits_of_grey_are_scaled_to_eight(tmp_path, name):
    Image.fromarray(np.repeat(LEVELS[:, None], 6, axis=1)).save(tmp_path / name)
    pixels = decode(tmp_path / name, SIZE)
    assert pixels.dtype == np.uint8
    assert pixels[:, 0, 0].tolist() == EIGHT_BITS
    assert np.array_equal(pixels[..., 0], pixels[..., 2])


def test_other_byte_order(tmp_path):
    values = np.repeat(LEVELS[:, None], 6, axis=1).astype(">u2")
    Image.frombytes("I;16B", (6, 4), values.tobytes()).save(tmp_path / "grey.tif")
    assert decode(tmp_path / "grey.tif", SIZE)[:, 0, 0].tolist() == EIGHT_BITS


@pytest.mark.parametrize("values", [np.full(SIZE, 0.5, np.float32), np.full(SIZE, 70000, np.int32)])
def test_grey_levels_without_a_known_scale_are_named(tmp_path, values):
    Image.fromarray(values).save(tmp_path / "odd.tif")
    with pytest.raises(FileProblem, match=r"odd\.tif: its grey levels \(mode [FI]\) have no known scale"):
        decode_all([tmp_path / "odd.tif"], SIZE)


UPRIGHT = np.zeros((4, 6, 3), dtype=np.uint8)
UPRIGHT[0, :, 0], UPRIGHT[:, 0, 1] = 250, 250


@pytest.mark.parametrize(("orientation", "stored"), [
    (1, UPRIGHT), (3, np.rot90(UPRIGHT, 2)), (6, np.rot90(UPRIGHT)), (8, np.rot90(UPRIGHT, -1)), (2, UPRIGHT[:, ::-1]),
])  # fmt: skip
def test_photographs_stand_upright_as_their_camera_was_held(tmp_path, orientation, stored):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "photo.png", exif=exif)
    assert np.array_equal(decode(tmp_path / "photo.png", SIZE), UPRIGHT)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGBA", "CMYK", "LA"])
def test_usual_modes_are_as_before(tmp_path, mode):
    image = Image.fromarray(UPRIGHT).convert(mode)
    image.save(tmp_path / "a.tif")
    assert np.array_equal(decode(tmp_path / "a.tif", SIZE), np.asarray(image.convert("RGB")))
