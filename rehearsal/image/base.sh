#!/usr/bin/env bash
# base.sh TAG: a base image from Debian packages, for a machine that cannot pull one. Does nothing where TAG exists.
#
# It stands in for the `python:3.11-slim-bookworm` of control_plane/Dockerfile: the same Debian and the same Python,
# installed elsewhere in it. Needs root, docker, debootstrap and a Debian mirror; takes about two minutes.
set -euo pipefail

tag=${1:?usage: base.sh TAG}
suite=bookworm

if docker image inspect "$tag" >/dev/null 2>&1; then
  exit 0
fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
debootstrap --variant=minbase --include=python3,python3-venv,ca-certificates "$suite" "$root" >&2

# Whom this machine trusts, the image trusts too: a package index may stand behind a proxy with its own certificate.
certificates=/etc/ssl/certs/ca-certificates.crt
if [ -s "$certificates" ]; then
  cp "$certificates" "$root$certificates"
fi

rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/usr/share/{doc,man,locale}/*
tar -C "$root" -c . | docker import \
  -c "ENV PIP_CERT=$certificates SSL_CERT_FILE=$certificates REQUESTS_CA_BUNDLE=$certificates PIP_DEFAULT_TIMEOUT=180" \
  - "$tag" >&2
