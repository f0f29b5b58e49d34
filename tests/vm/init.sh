#!/bin/sh
# The init of a virtual machine: sets it up and carries out what is asked for over the second serial line. A request is a line, a shell
# script in base64; the answer is its output in base64, a blank, and its exit code.
export PATH=/usr/local/bin:/bin:/sbin:/usr/bin:/usr/sbin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs run /run
mount -t tmpfs -o mode=1777 tmp /tmp
mount -t cgroup2 cgroup /sys/fs/cgroup
# Not below the root group, which may hold no process once it hands controllers on.
mkdir /sys/fs/cgroup/init
echo $$ >/sys/fs/cgroup/init/cgroup.procs

value() { sed -n "s/.* orch\.$1=\([^ ]*\) .*/\1/p" /proc/cmdline; }
hostname "$(value name)"
echo "127.0.0.1 localhost $(value name)" >/etc/hosts
ip link set lo up
modprobe virtio_net
number=0
for address in $(value addresses | tr , ' '); do
	ip address add "$address" dev eth$number
	ip link set eth$number up
	number=$((number + 1))
done
[ $number = 1 ] || echo 1 >/proc/sys/net/ipv4/ip_forward
route=$(value route)
[ -z "$route" ] || ip route add "${route%,*}" via "${route#*,}"

mkdir /tmp/home
export HOME=/tmp/home KUBECONFIG=/etc/orch/orch.yaml ORCH_DATA_DIR=/var/lib/orch IMAGE=/root/busybox.tar
exec 8<>/dev/ttyS1
stty raw -echo <&8
echo ready >&8
while read -r request <&8; do
	echo "$request" | base64 -d >/tmp/request
	setsid sh -eu /tmp/request >/tmp/answer 2>/tmp/errors </dev/null
	code=$?
	[ $code = 0 ] || cat /tmp/errors >>/tmp/answer
	echo "$(base64 -w 0 /tmp/answer 2>/dev/null || base64 /tmp/answer | tr -d '\n') $code" >&8
done
