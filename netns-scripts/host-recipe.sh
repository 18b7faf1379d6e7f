#!/usr/bin/env bash
# Makes a host fit to carry Kedge guests without privilege, or takes that back.
#
#   host-recipe.sh up   POOL VIA DEV     e.g.  host-recipe.sh up 100.64.0.0/10 10.77.2.1 eth0
#   host-recipe.sh down POOL VIA DEV
#
#      guest socket (an address of POOL)
#           |  out: rule 10, "from POOL iif lo" ........... table 100: default via VIA dev DEV
#           |  in:  table local, "local POOL dev lo" ...... delivered to the socket
#        [ DEV ]------------------------------------------- VIA, the gateway
#
# Four things, and why:
# - `local POOL dev lo` (AnyIP): an unprivileged process may bind and connect from every guest address, so that a guest which
#   arrives or leaves changes nothing on the host.
# - Rule 10 sends what a guest address sends to the gateway, before the local table is asked (which moves from pref 0 to 32):
#   otherwise a guest's connection to a service of its own host would never leave the host.
# - rp_filter 2 ("loose") on DEV: what is in force is the larger of `all` and DEV, and peers of guests are not on DEV's network.
# - arp_announce 2 on DEV: or else the host asks for VIA's link address in the name of a guest, and VIA, which knows guests only
#   behind its TUN, does not answer. (Seen: a guest that had just moved could not connect until the gateway spoke first.)
#
# Works in the network namespace it is called in. Safe to repeat; `down` leaves the rules as the kernel makes them, and the two settings of DEV
# as they are in `default`. Rules of others at 10 or 32 are left alone: `up` says so and changes nothing.
set -Eeuo pipefail
# shellcheck source=netns-scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

readonly TABLE=100
readonly PREF_GUESTS=10
readonly PREF_LOCAL=32

readonly LOCAL_RULE='from all lookup local'

# Rules of a preference, as `ip` writes them.
rules() {
  ip -4 rule show pref "$1" | sed -E 's/^[0-9]+:[[:space:]]*//; s/[[:space:]]+$//'
}

have_rule() {
  rules "$1" | grep -Fxq "$2"
}

# Another rule there may win, or lose, in our place.
no_other_rule() {
  local other
  other=$(rules "$1" | grep -Fxv "$2" | head -n 1) || return 0
  trap - ERR
  die "rule $1 is taken: \"$other\"; move it to another preference (ip -4 rule del pref $1; ip -4 rule add pref ...)"
}

up() {
  no_other_rule "$PREF_GUESTS" "$guests_rule"
  no_other_rule "$PREF_LOCAL" "$LOCAL_RULE"
  ip -4 route replace local "$pool" dev lo
  ip -4 route replace default via "$via" dev "$device" table "$TABLE"
  # The rule that must win comes first, and the local table is always reachable by one of its two rules.
  have_rule "$PREF_GUESTS" "$guests_rule" || ip -4 rule add pref "$PREF_GUESTS" from "$pool" iif lo lookup "$TABLE"
  have_rule "$PREF_LOCAL" "$LOCAL_RULE" || ip -4 rule add pref "$PREF_LOCAL" lookup local
  have_rule 0 "$LOCAL_RULE" && ip -4 rule del pref 0 lookup local
  echo 2 >"/proc/sys/net/ipv4/conf/$device/rp_filter"
  echo 2 >"/proc/sys/net/ipv4/conf/$device/arp_announce"
}

down() {
  have_rule 0 "$LOCAL_RULE" || ip -4 rule add pref 0 lookup local
  have_rule "$PREF_LOCAL" "$LOCAL_RULE" && ip -4 rule del pref "$PREF_LOCAL" lookup local
  have_rule "$PREF_GUESTS" "$guests_rule" && ip -4 rule del pref "$PREF_GUESTS" from "$pool" iif lo lookup "$TABLE"
  ip -4 route flush table "$TABLE" 2>/dev/null || true
  ip -4 route del local "$pool" dev lo 2>/dev/null || true
  local key
  for key in rp_filter arp_announce; do
    if [[ -e /proc/sys/net/ipv4/conf/$device/$key ]]; then
      cat "/proc/sys/net/ipv4/conf/default/$key" >"/proc/sys/net/ipv4/conf/$device/$key"
    fi
  done
}

[[ $# == 4 && $1 =~ ^(up|down)$ ]] || usage "${0##*/} up|down POOL VIA DEV"
need ip
pool=$2 via=$3 device=$4
readonly guests_rule="from $pool iif lo lookup $TABLE"
# A failed `up` must not leave half a recipe: a host without its local table cannot talk to itself.
if [[ $1 == up ]]; then
  trap 'trap - ERR; down || true; die "up failed and was taken back"' ERR
  up
else
  down
fi
