#!/bin/sh
# python36.sh FOLDER: a virtual environment of a real Python 3.6 with pytest in FOLDER.
#
# Looks for $PYTHON36, pyenv's newest 3.6, and python3.6 on the PATH. Where there is none, or it
# cannot be set up, FOLDER/absent says why, and the exit code is 0 all the same.
set -u
folder=${1:?usage: python36.sh FOLDER}
mkdir -p "$folder"
rm -f "$folder/absent"

is36() {
    [ "$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" = 3.6 ]
}

absent() {
    echo "$1" > "$folder/absent"
    echo "Agents are not tested on Python 3.6: $1"
    exit 0
}

found=
for candidate in "${PYTHON36:-}" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.6*/bin/python3.6 \
        "$(command -v python3.6 2>/dev/null)"; do
    if [ -n "$candidate" ] && [ -x "$candidate" ] && is36 "$candidate"; then
        found=$candidate
    fi
    [ -n "$found" ] && [ "$candidate" = "${PYTHON36:-}" ] && break
done
[ -n "$found" ] || absent "no Python 3.6 is installed; set PYTHON36 to one, or: pyenv install 3.6"

python=$folder/environment/bin/python
if ! { [ -x "$python" ] && is36 "$python"; }; then
    rm -rf "$folder/environment"
    "$found" -m venv "$folder/environment" || absent "$found cannot make a virtual environment"
fi
if ! "$python" -c 'import pytest; assert pytest.__version__ == "7.0.1"' 2>/dev/null; then
    # The pip that comes with 3.6 does not find pytest's newest version for it.
    "$python" -m pip install --quiet --disable-pip-version-check pip==21.3.1 \
        && "$python" -m pip install --quiet --disable-pip-version-check pytest==7.0.1 \
        || absent "pytest 7.0.1 could not be installed for $found"
fi
echo "Python 3.6: $found"
