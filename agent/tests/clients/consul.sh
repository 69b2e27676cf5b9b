#!/bin/sh
# Unpacks (does not install) Consul 1.8.7, the last that Debian has, into the folder $1: its command line is tried beside our agent.
set -eu
to=$1
mkdir -p "$to/apt/lists/partial"
cd "$to"
uri=$(apt-get indextargets --format '$(REPO_URI)' | grep -v security | head -1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $uri bullseye main" >apt/sources.list
bullseye() { apt-get -qq -o Dir::Etc::sourcelist="$PWD/apt/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State::lists="$PWD/apt/lists" "$@"; }
bullseye update
bullseye download consul
dpkg-deb -x consul_*.deb .
rm -rf apt consul_*.deb
