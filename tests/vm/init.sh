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

value() { sed -n "s/.*orch\.$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
hostname "$(value name)"
echo "127.0.0.1 localhost $(value name)" >/etc/hosts
ip link set lo up
modprobe virtio_net
ip address add "$(value address)" dev eth0
ip link set eth0 up

exec 8<>/dev/ttyS1
stty raw -echo <&8
echo ready >&8
while read -r request <&8; do
	echo "$request" | base64 -d >/tmp/request
	setsid sh -eu /tmp/request >/tmp/answer 2>&1 </dev/null
	code=$?
	echo "$(base64 -w 0 /tmp/answer 2>/dev/null || base64 /tmp/answer | tr -d '\n') $code" >&8
done
