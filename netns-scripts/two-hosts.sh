#!/usr/bin/env bash
# Two hosts behind one gateway, as four network namespaces. NAME is a prefix of your choice; several can be up at once.
#
#   NAME-peer                    NAME-gw                                          NAME-a
#  +-----------+        +-------------------------+                        +-------------------+
#  |      eth0 |========| up0                 ha0 |========================| eth0    (host A)  |
#  | 10.77.1.2 |        | 10.77.1.1     10.77.2.1 |                        | 10.77.2.2         |
#  +-----------+        |                         |                        | 100.64.0.0/10: lo |
#   knows only          |  outside address        |                        +-------------------+
#   10.77.1.0/24        |  10.77.1.10: proxy      |                         NAME-b
#                       |  neighbour entry, set   |                        +-------------------+
#                       |  by the gateway daemon  |========================| eth0    (host B)  |
#                       |                     hb0 |                        | 10.77.3.2         |
#                       |               10.77.3.1 |                        | 100.64.0.0/10: lo |
#                       +-------------------------+                        +-------------------+
#
# The peer has no route beyond its own network: it can only talk to a guest through the outside address, so nothing passes
# untranslated unnoticed. Hosts reach everything through the gateway and are set up by host-recipe.sh beside this script.
#
#   two-hosts.sh up NAME [--mtu N] [--rps one|all]   makes it; what is left of an earlier one of that name goes first. Packets are
#                                           received by one CPU, which keeps them in order, or by all: twice as fast, and a
#                                           connection whose packets take two ways at once (gateway and fast path) may see some late
#   two-hosts.sh down NAME                  ends the processes in the namespaces and removes all; safe to repeat
#   two-hosts.sh env NAME                   prints KEY=value lines: namespaces, devices, addresses
#   two-hosts.sh offload NAME on|off        segmentation and checksum offload of all devices. Off: every packet on a wire is a
#                                           whole frame of at most the MTU with whole checksums, which receivers then verify
#                                           (slower; for captures that are checked)
#   two-hosts.sh loss NAME peer PERCENT%    the peer loses packets in both directions (nftables numgen)
#   two-hosts.sh noloss NAME peer
#   two-hosts.sh kernel-nat NAME [GUEST [HOST]]   the kernel's NAT in the gateway's place, to compare with: traffic of the pool leaves
#                                           with the outside address, new TCP and UDP to it goes to GUEST (100.64.0.1) on HOST (a)
#   two-hosts.sh nokernel-nat NAME
#
# Limits: IPv4 only (IPv6 is switched off so that captures are quiet), one peer, needs root.
set -Eeuo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=netns-scripts/lib.sh
source "$here/lib.sh"

readonly POOL=100.64.0.0/10
readonly OUTSIDE=10.77.1.10
readonly USAGE="${0##*/} up|down|env|offload|loss|noloss|kernel-nat|nokernel-nat NAME [...] (see the top of the file)"

# namespace, device: both ends of the three cables
cables() {
  printf '%s\n' "$name-gw up0 $name-peer eth0" "$name-gw ha0 $name-a eth0" "$name-gw hb0 $name-b eth0"
}

add_namespace() {
  local namespace=$1 key
  ip netns add "$namespace"
  inside "$namespace" ip link set lo up
  for key in all default; do set_sysctl "$namespace" "net/ipv6/conf/$key/disable_ipv6" 1; done
  # A new namespace takes these from the machine; tests and benchmarks want one behaviour everywhere.
  set_sysctl "$namespace" net/ipv4/tcp_congestion_control cubic 2>/dev/null || set_sysctl "$namespace" net/ipv4/tcp_congestion_control reno
  set_sysctl "$namespace" net/ipv4/conf/all/rp_filter 0
  set_sysctl "$namespace" net/ipv4/conf/default/rp_filter 1
}

# add_cable NS1 DEVICE1 ADDRESS1 NS2 DEVICE2 ADDRESS2: made inside the namespaces, so that no name can clash outside.
add_cable() {
  ip link add "$2" mtu "$mtu" netns "$1" type veth peer name "$5" mtu "$mtu" netns "$4"
  inside "$1" ip addr add "$3/24" dev "$2"
  inside "$4" ip addr add "$6/24" dev "$5"
  inside "$1" ip link set "$2" up
  inside "$4" ip link set "$5" up
  steer "$1" "$2"
  steer "$4" "$5"
}

# A veth hands packets to the CPU that sends; a sender that changes its CPU overtakes itself. Network cards put all packets of a
# connection into one queue. Receive packet steering does so, too, but takes the sending socket's word for what a connection is, and so
# knows those apart that are written to a TUN for the same; one CPU for all keeps the order.
steer() {
  local cpus=1 all
  all=$(nproc --all)
  [[ $rps == one ]] || cpus=$(printf '%x' $(((1 << (all < 32 ? all : 32)) - 1)))
  set_sysfs "$1" "class/net/$2/queues/rx-0/rps_cpus" "$cpus"
}

add_host() {
  local namespace=$1 via=$2
  inside "$namespace" ip route add default via "$via" dev eth0
  inside "$namespace" "$here/host-recipe.sh" up "$POOL" "$via" eth0
}

up() {
  local part
  down
  trap 'trap - EXIT; down; die "up failed; nothing is left of $name"' ERR
  trap 'down' EXIT
  trap 'exit 130' INT TERM HUP
  for part in peer gw a b; do add_namespace "$name-$part"; done
  add_cable "$name-gw" up0 10.77.1.1 "$name-peer" eth0 10.77.1.2
  add_cable "$name-gw" ha0 10.77.2.1 "$name-a" eth0 10.77.2.2
  add_cable "$name-gw" hb0 10.77.3.1 "$name-b" eth0 10.77.3.2
  set_sysctl "$name-gw" net/ipv4/ip_forward 1
  # Packets of guests come in on ha0 and hb0 with addresses the main table knows nothing about.
  for part in up0 ha0 hb0; do set_sysctl "$name-gw" "net/ipv4/conf/$part/rp_filter" 0; done
  add_host "$name-a" 10.77.2.1
  add_host "$name-b" 10.77.3.1
  trap - ERR EXIT
}

down() {
  local part
  for part in peer gw a b; do
    have_netns "$name-$part" || continue
    end_processes "$name-$part"
    # Deleting a namespace takes its devices along a little later; deleting them first makes it so when we return.
    delete_devices "$name-$part"
    ip netns del "$name-$part"
  done
}

delete_devices() {
  local device
  for device in $(inside "$1" ip -o link show type veth 2>/dev/null | sed -E 's/^[0-9]+: ([^@:]+)[@:].*/\1/'); do
    inside "$1" ip link del "$device" 2>/dev/null || true
  done
}

must_be_up() {
  local part
  for part in peer gw a b; do have_netns "$name-$part" || die "$name is not up"; done
}

print_env() {
  cat <<END
NAME=$name
PEER_NS=$name-peer
GW_NS=$name-gw
A_NS=$name-a
B_NS=$name-b
PEER_DEVICE=eth0
PEER_ADDRESS=10.77.1.2
GW_PEER_DEVICE=up0
GW_PEER_ADDRESS=10.77.1.1
OUTSIDE_ADDRESS=$OUTSIDE
A_DEVICE=eth0
A_ADDRESS=10.77.2.2
GW_A_DEVICE=ha0
GW_A_ADDRESS=10.77.2.1
B_DEVICE=eth0
B_ADDRESS=10.77.3.2
GW_B_DEVICE=hb0
GW_B_ADDRESS=10.77.3.1
POOL=$POOL
END
}

offload() {
  local gw_ns gw_device ns device segments=65535
  [[ $1 == on || $1 == off ]] || usage "${0##*/} offload NAME on|off"
  # A sending TCP builds super-packets whatever the device can do, and the hooks of `loss` would lose them whole.
  [[ $1 == on ]] || segments=1
  while read -r gw_ns gw_device ns device; do
    set_offload "$gw_ns" "$gw_device" "$1" "$segments"
    set_offload "$ns" "$device" "$1" "$segments"
  done < <(cables)
}

set_offload() {
  inside "$1" ethtool -K "$2" tx "$3" tso "$3" gso "$3" gro off >/dev/null
  inside "$1" ip link set dev "$2" gso_max_segs "$4"
}

# What arrives is dropped, what leaves is sent to nowhere: a packet dropped on its way out would be reported
# to the sending TCP, which then has not sent it. On the gateway's side a capture shows exactly what arrived there.
loss() {
  local drops
  [[ $1 == peer && $2 =~ ^([0-9]{1,2})(\.([0-9]{1,2}))?%$ ]] || usage "${0##*/} loss NAME peer PERCENT%   (0.01% to 99.99%)"
  drops=$((10#${BASH_REMATCH[1]} * 100 + 10#$(printf '%-2s' "${BASH_REMATCH[3]}" | tr ' ' 0)))
  noloss
  # A cable between two ends nobody listens at. (A dummy device would do; not every kernel has them.)
  inside "$name-peer" ip link add nowhere0 type veth peer name nowhere1
  inside "$name-peer" ip link set nowhere0 arp off up
  inside "$name-peer" ip link set nowhere1 arp off up
  inside "$name-peer" nft -f - <<END
table netdev loss {
  chain arriving {
    type filter hook ingress device eth0 priority 0;
    meta protocol ip numgen random mod 10000 < $drops counter drop
  }
  chain leaving {
    type filter hook egress device eth0 priority 0;
    meta protocol ip numgen random mod 10000 < $drops counter fwd to "nowhere0"
  }
}
END
}

noloss() {
  inside "$name-peer" nft delete table netdev loss 2>/dev/null || true
  inside "$name-peer" ip link del nowhere0 2>/dev/null || true
}

kernel_nat() {
  local guest=${1:-100.64.0.1} host=${2:-a} via device
  case $host in
    a) via=10.77.2.2 device=ha0 ;;
    b) via=10.77.3.2 device=hb0 ;;
    *) usage "${0##*/} kernel-nat NAME [GUEST [a|b]]" ;;
  esac
  no_kernel_nat
  inside "$name-gw" ip addr add "$OUTSIDE/32" dev up0
  inside "$name-gw" ip route add "$POOL" via "$via" dev "$device"
  inside "$name-gw" nft -f - <<END
table ip kernel_nat {
  chain to_guest {
    type nat hook prerouting priority dstnat;
    iif "up0" ip daddr $OUTSIDE meta l4proto { tcp, udp } dnat to $guest
  }
  chain to_peer {
    type nat hook postrouting priority srcnat;
    oif "up0" ip saddr $POOL snat to $OUTSIDE
  }
}
END
}

no_kernel_nat() {
  inside "$name-gw" nft delete table ip kernel_nat 2>/dev/null || true
  inside "$name-gw" ip route del "$POOL" 2>/dev/null || true
  inside "$name-gw" ip addr del "$OUTSIDE/32" dev up0 2>/dev/null || true
}

[[ $# -ge 2 ]] || usage "$USAGE"
command=$1 name=$2 mtu=1500 rps=one
shift 2
check_name "$name"
need_root
need ip
case $command in
  up)
    while [[ $# -gt 0 ]]; do
      case $1 in
        --mtu)
          [[ ${2:-} =~ ^[0-9]+$ && $2 -ge 576 && $2 -le 65535 ]] || usage "${0##*/} up NAME [--mtu 576..65535]"
          mtu=$2
          ;;
        --rps)
          [[ ${2:-} =~ ^(one|all)$ ]] || usage "${0##*/} up NAME [--rps one|all]"
          rps=$2
          ;;
        *) usage "$USAGE" ;;
      esac
      shift 2
    done
    up
    ;;
  down) down ;;
  env | offload | loss | noloss | kernel-nat | nokernel-nat)
    must_be_up
    case $command in
      env) print_env ;;
      offload) need ethtool && offload "${1:-}" ;;
      loss) need nft && loss "${1:-}" "${2:-}" ;;
      noloss) need nft && noloss ;;
      kernel-nat) need nft && kernel_nat "$@" ;;
      nokernel-nat) need nft && no_kernel_nat ;;
    esac
    ;;
  *) usage "$USAGE" ;;
esac
