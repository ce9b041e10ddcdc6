#!/bin/busybox sh
# modules: virtio_mmio virtio_blk virtio_rng virtio_balloon virtio_net vmw_vsock_virtio_transport crc32c_generic ext4
# Mounts the disk called `root`, and answers commands typed on the console: what the tests of disks look at. Every
# answer is one line and begins with the command's name.
#
# `guest-probe` writes records to the disk and checks them; the tests put it into the archive beside busybox.
export PATH=/bin
mkdir -p /proc /sys /dev /mnt
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
stty -echo
# What the kernel has to say of I/O errors would fall into the middle of our lines: `errors` tells of them.
dmesg -n 1
/modules/load

device() { # ID: the name of the block device with that serial number
    for dir in /sys/block/vd*; do
        [ "$(cat "$dir/serial")" = "$1" ] && echo "${dir##*/}"
    done
}

say() { # NAME COMMAND...: does it and says whether it worked
    name=$1
    shift
    "$@" && echo "$name done" || echo "$name failed"
}

root=/dev/$(device root)
[ "$(cat /sys/block/${root#/dev/}/ro)" = 1 ] && mode=ro || mode=rw
mount -t ext4 -o $mode "$root" /mnt && state=mounted || state=failed
echo "guest $(uname -r) cpus=$(nproc) root=$state,$mode disks=$(ls /sys/block | grep -c vd)"
while :; do
    read -r command argument || continue
    case $command in
        drivers) # how many devices each has
            echo drivers $(cd /sys/bus/virtio/drivers && for driver in *; do echo "$driver=$(ls "$driver" | grep -c '^virtio[0-9]')"; done) ;;
        rng) echo "rng $(cat /sys/class/misc/hw_random/rng_current) $(dd if=/dev/hwrng bs=16 count=1 2>/dev/null | md5sum)" ;;
        records) guest-probe records /mnt/records & ;;
        check) # as the disk has them, not as memory does
            echo 3 >/proc/sys/vm/drop_caches
            guest-probe check /mnt/records ;;
        quiet) killall guest-probe; while pidof guest-probe >/dev/null; do usleep 10000; done; echo "quiet done" ;;
        write) say write sh -c "echo $argument >/mnt/word && sync" ;;
        read) echo 3 >/proc/sys/vm/drop_caches; echo "read $(cat /mnt/word)" ;;
        fill) # until there is no more room, in the guest or behind it
            dd if=/dev/zero bs=64k of=/mnt/fill conv=fsync count="$argument" 2>/dev/null && echo "fill done" || echo "fill failed" ;;
        errors) echo "errors $(dmesg | grep -c 'I/O error')" ;;
        trim) say trim fstrim /mnt ;;
        unmount) say unmount umount /mnt ;;
        mount) say mount mount -t ext4 -o $mode "$root" /mnt ;;
        poweroff) poweroff -f ;;
        *) echo "unknown $command" ;;
    esac
done
