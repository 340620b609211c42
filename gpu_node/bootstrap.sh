#!/bin/bash
# Makes a machine a node: bootstrap.sh ENVIRONMENT-FILE, as root, in the folder where the agent's package lies.
# Starts the agent first and nothing else; the agent starts the engine, and tells of it. Ends when the agent runs.
set -euo pipefail

environment=$1
home=$(cd "$(dirname "$0")" && pwd)
data=/var/lib/diogenes  # weights, the engine, caches: the home of the agent's user
secrets=/run/diogenes/secrets.env

set -a
# shellcheck source=/dev/null
. "$environment"
set +a

nvme=/opt/dlami/nvme  # where the image mounts the instance's own disks

say() { echo "diogenes: $*" >&2; }

# Several as one, striped: nothing on them outlives the machine anyway. Those in use already are refused by mkfs.
mount_own_disks() {
  local disks disk
  mapfile -t disks < <(lsblk --nodeps --noheadings --paths --output NAME,MODEL |
    awk '/Amazon EC2 NVMe Instance Storage/ { print $1 }')
  case ${#disks[@]} in
    0) return 1 ;;
    1) disk=${disks[0]} ;;
    *)
      disk=/dev/md0
      mdadm --create "$disk" --run --level 0 --raid-devices ${#disks[@]} "${disks[@]}" || return 1
      ;;
  esac
  mkfs.ext4 -q -E nodiscard "$disk" && mkdir -p "$nvme" && mount -o noatime "$disk" "$nvme"
}

# Images are larger than weights may be, and are unpacked where they are kept. Mounted over the daemons' own folders, so
# that neither's configuration is touched; what the image has there is nothing that we use. Started in any case: where only one
# of them cannot be stopped, the others are down.
give_docker_the_disk() {
  local folder status=0
  systemctl stop docker.socket docker.service containerd.service || status=1
  for folder in /var/lib/docker /var/lib/containerd; do
    [ "$status" = 0 ] || break
    mkdir -p "$nvme/${folder##*/}" "$folder" && mount --bind "$nvme/${folder##*/}" "$folder" || status=1
  done
  systemctl start docker.service || status=1
  return "$status"
}

# The image's Python may lack what makes a virtual environment, and the headers that Triton compiles against.
python3 - <<'PYTHON' || packages=1
import ensurepip, pathlib, sysconfig, venv
raise SystemExit(not (pathlib.Path(sysconfig.get_path("include")) / "Python.h").exists())
PYTHON
if [ "${packages:-}" ]; then
  say "installing Python's own packages"
  export DEBIAN_FRONTEND=noninteractive
  apt-get -o DPkg::Lock::Timeout=300 update -qq
  apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends python3-venv python3-dev
fi

# The instance's own disk is many times faster than the volume; types without one keep everything on the volume.
# The image mounts it by a unit that may not have run yet; with a limit, since what it waits for may wait for us.
timeout 60 systemctl start dlami-nvme.service || say "the image mounted no disk of the instance's own"
if ! mountpoint -q "$nvme"; then
  mount_own_disks || say "everything is kept on the volume"
fi
if [ ! -e "$data" ] && mountpoint -q "$nvme"; then
  mkdir -p "$nvme/diogenes"
  ln -sfn "$nvme/diogenes" "$data"
else
  mkdir -p "$data"
fi
# A user of its own: a model's code runs in the engine.
id diogenes > /dev/null 2>&1 || useradd --system --home-dir "$data" --shell /usr/sbin/nologin diogenes
chown diogenes: "$data/"
# Docker's socket is worth the machine's root: the agent may have it, and no container gets to see it.
if [ "${DIOGENES_ENGINE_KIND:-}" = container ]; then
  usermod --append --groups docker diogenes
  if mountpoint -q "$nvme"; then
    give_docker_the_disk || say "container images are kept on the volume"
  fi
fi

# An image of ours has the agent's packages already; one that is older than their list is as good as none.
baked=/opt/diogenes-agent
if [ "$(cat "$baked/.installed" 2> /dev/null)" = "$(sha256sum "$home/requirements.txt" | cut -d " " -f 1)" ]; then
  ln -sfn "$baked" "$home/venv"
else
  "$home/agent_env.sh" "$home/venv"
fi

# The token never appears in a command line, in the journal or on a disk; systemd reads the file as root.
if [ "${DIOGENES_HF_TOKEN_PARAMETER:-}" ]; then
  (
    umask 077
    mkdir -p "$(dirname "$secrets")"
    for pause in 1 2 4 8 16 0; do
      if token=$(aws ssm get-parameter --region "$AWS_REGION" --name "$DIOGENES_HF_TOKEN_PARAMETER" \
        --with-decryption --query Parameter.Value --output text); then
        echo "HF_TOKEN=$token" > "$secrets"
        exit
      fi
      sleep "$pause"
    done
    # Most models need none; one that does fails with a reason that names the token.
    say "no Hugging Face token: it cannot be read"
  )
fi

systemctl link "$home/diogenes-node.service"
systemctl start diogenes-node.service
systemctl stop diogenes-deadman.timer  # from here on the end of the agent is the end of the machine
