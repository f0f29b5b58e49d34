#!/bin/sh
# The first process of a virtual machine: finds the disk and goes on from there.
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for name in virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk; do
	[ ! -e /lib/modules/$name.ko ] || insmod /lib/modules/$name.ko
done
mkdir /disk
until mount -t ext4 /dev/vda /disk 2>/dev/null; do usleep 50000; done
umount /proc
mount --move /dev /disk/dev
exec switch_root /disk /sbin/init-orch
