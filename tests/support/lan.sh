# The link that hosts of the tests share, and the world beside it: one network namespace with a bridge per segment, and routes between
# the segments, but none that leads further. Runs until it is killed.
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"
ip link set lo up
segment() {
	ip link add "$1" type bridge
	ip address add "$2" dev "$1"
	ip link set "$1" up
}
segment near 10.99.0.1/24
segment far 10.98.0.1/24
echo 1 >/proc/sys/net/ipv4/ip_forward
echo ready
exec sleep infinity
