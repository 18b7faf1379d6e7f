# Small helpers shared by the scripts in this folder. Source it; it does nothing by itself.

# die MESSAGE: one line on stderr, exit 1.
die() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# usage MESSAGE: as die, but with the exit code of a usage error.
usage() {
  printf 'usage: %s\n' "$*" >&2
  exit 2
}

# need COMMAND...: every command must be there; says which Debian package has it.
need() {
  local command
  for command in "$@"; do
    command -v "$command" >/dev/null 2>&1 && continue
    case $command in
      ip) die "needs 'ip': apt-get install iproute2" ;;
      nft) die "needs 'nft': apt-get install nftables" ;;
      *) die "needs '$command': apt-get install $command" ;;
    esac
  done
}

need_root() {
  [[ $(id -u) == 0 ]] || die 'needs root (or CAP_NET_ADMIN and CAP_SYS_ADMIN): network namespaces cannot be made without'
}

# The rules a name must obey: it is the prefix of namespace names and of nothing else, so it only has to be a plain word.
check_name() {
  [[ $1 =~ ^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$ ]] || die "bad name '$1': letters, digits, '_', '.', '-', at most 64"
}

# A mount point in /run/netns is what makes a namespace exist under a name.
have_netns() {
  [[ -e /run/netns/$1 ]]
}

# inside NAMESPACE COMMAND...
# Not `ip netns exec`: that also makes a mount namespace, which fails where / is no mount point (a chroot, some containers).
inside() {
  local namespace=$1
  shift
  nsenter "--net=/run/netns/$namespace" -- "$@"
}

# set_sysctl NAMESPACE KEY VALUE: KEY with slashes, below /proc/sys. (`sysctl` itself is in a package that may be missing.)
set_sysctl() {
  inside "$1" sh -c 'printf "%s\n" "$2" >"/proc/sys/$1"' sh "$2" "$3"
}

# set_sysfs NAMESPACE FILE VALUE: FILE below /sys. The mounted /sys shows the devices of the namespace it was mounted in, so this
# one is looked at through a mount of its own, for a moment.
set_sysfs() {
  local directory status=0
  directory=$(mktemp -d)
  inside "$1" mount -t sysfs sysfs "$directory"
  printf '%s\n' "$3" >"$directory/$2" || status=$?
  umount "$directory"
  rmdir "$directory"
  return "$status"
}

# end_processes NAMESPACE: ends whatever still runs in a namespace that is about to go, each by its id. A namespace lives on
# without a name for as long as a process is in it, so this has to come first.
end_processes() {
  local namespace=$1 signal pid round
  local -a pids
  for signal in TERM KILL; do
    for round in 1 2 3 4 5 6 7 8 9 10; do
      mapfile -t pids < <(ip netns pids "$namespace" 2>/dev/null)
      ((${#pids[@]})) || return 0
      if ((round == 1)); then
        for pid in "${pids[@]}"; do kill -"$signal" "$pid" 2>/dev/null || true; done
      fi
      sleep 0.05
    done
  done
}
