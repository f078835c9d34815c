#!/usr/bin/env bash
# Makes an emulated 64-bit ARM board: DIR/bin/python3 is an aarch64 CPython with numpy and onnxruntime, run by qemu.
# Needs apt-get (Debian or Ubuntu) and pip, but neither root nor a change of the system. About 130 MB are downloaded.
# Usage: bash tests/runners/arm64_board.sh DIR
set -euo pipefail
export LC_ALL=C
board=$(realpath -m "${1:?give a folder for the board}")
root="$board/root"
mkdir -p "$board"/apt/{lists/partial,cache/archives/partial,debs} "$board"/{bin,wheels} "$root"/{proc,opt/site}

mirror=$(apt-get indextargets --format "\$(REPO_URI)" "Created-By: Packages" | head -1)
release=$(. /etc/os-release && echo "$VERSION_CODENAME")
keys=$(ls /usr/share/keyrings/*archive-keyring.gpg | head -1)

# A package database of its own for one architecture, so that the system's is left alone.
use() {
  : > "$board/apt/status"
  echo "deb [signed-by=$keys arch=$1] $mirror $release main" > "$board/apt/sources.list"
  cat > "$board/apt/conf" <<CONF
APT::Architecture "$1";
APT::Architectures { "$1"; };
APT::Sandbox::User "";
Acquire::Languages "none";
Debug::NoLocking "1";
Dir::State "$board/apt";
Dir::State::status "$board/apt/status";
Dir::Cache "$board/apt/cache";
Dir::Etc::sourcelist "$board/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
CONF
  APT_CONFIG="$board/apt/conf" apt-get -qq update
}
download() { (cd "$board/apt/debs" && APT_CONFIG="$board/apt/conf" apt-get -qq download "$@"); }

qemu=$(command -v qemu-aarch64-static || true)
if [ -z "$qemu" ]; then
  use amd64
  download qemu-user-static
  dpkg-deb --fsys-tarfile "$board"/apt/debs/qemu-user-static*.deb | tar -xO ./usr/bin/qemu-aarch64-static > "$board/bin/qemu"
  chmod +x "$board/bin/qemu"
  qemu="$board/bin/qemu"
fi

use arm64
python=$(APT_CONFIG="$board/apt/conf" apt-cache depends python3-minimal | sed -n 's/.*Depends: \(python3\.[0-9]*\)-minimal/\1/p')
version=${python#python}
needed=$(APT_CONFIG="$board/apt/conf" apt-cache depends --recurse --no-recommends --no-suggests --no-conflicts \
  --no-breaks --no-replaces --no-enhances "lib$python-stdlib" "$python-minimal" libstdc++6 |
  grep -E '^[a-z0-9][a-z0-9.+-]*$' | grep -vE '^(debconf|dpkg|media-types|mime-support|tzdata|perl.*|cdebconf.*)$' | sort -u)
# shellcheck disable=SC2086  # one package a word
download $needed
for deb in "$board"/apt/debs/*_arm64.deb; do dpkg-deb -x "$deb" "$root"; done

python3 -m pip download -q --no-deps -d "$board/wheels" --only-binary=:all: --python-version "$version" \
  --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 --platform manylinux2014_aarch64 \
  numpy onnxruntime flatbuffers protobuf packaging
for wheel in "$board"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$root/opt/site"; done

# onnxruntime looks its processor up here, and crashes on the text of an x86 machine; qemu reads this file in its place.
for core in 0 1; do
  printf 'processor\t: %d\nFeatures\t: fp asimd aes sha1 sha2 crc32 atomics fphp asimdhp asimddp\n' $core
  printf 'CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: 0xd0b\nCPU revision\t: 1\n\n'
done > "$root/proc/cpuinfo"

# Python takes the name that it is started under for the one to start its children with: it must be this script's.
cat > "$board/bin/python3" <<START
#!/bin/sh
export PYTHONHOME=$root/usr PYTHONPATH=$root/opt/site
exec $qemu -0 $board/bin/python3 -cpu cortex-a76 -L $root $root/usr/bin/$python "\$@"
START
chmod +x "$board/bin/python3"
"$board/bin/python3" -c "import platform, onnxruntime as o; print(platform.machine(), platform.python_version(), o.__version__)"
