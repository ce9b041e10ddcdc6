#!/bin/busybox sh
# modules: pvpanic_mmio virtio_mmio virtio_balloon virtio_blk virtio_rng vmw_vsock_virtio_transport
# Counts on the console, once the host asks for it, and answers commands typed there: what the tests of stock kernels
# look at before and after a restore. Every answer is one line and begins with the command's name.
#
# `guest-probe` reads clocks in nanoseconds, naps, and computes; the tests put it into the archive beside busybox.
export PATH=/bin
mkdir -p /proc /sys /dev /run
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o size=80m tmpfs /run
stty -echo

count() { # from 1 on, for ever, a few times a second; every twelfth time with the checksum of the file
    n=0
    while :; do
        n=$((n + 1))
        sum=
        [ $((n % 12)) = 0 ] && sum=" sum=$(md5sum </run/file | cut -c 1-32)"
        echo "count $n $(guest-probe clock) date=$(date +%s)$sum"
        usleep 50000
    done
}

complaints() { # what the kernel has said at level warning or above, or about its clocks, since it was last cleared
    dmesg -r | grep -E '^<[0-4]>|clocksource|tsc|TSC|hrtimer|sched_clock|rcu' | while read -r line; do
        echo "dmesg complaint: $line"
    done
    echo "dmesg end"
}

# A soft Ctrl-Alt-Del is a signal to this process.
echo 0 >/proc/sys/kernel/ctrl-alt-del
trap 'echo "ctrl-alt-del heard"; reboot -f' INT

echo "guest $(uname -r) cpus=$(nproc) clocksource=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
while :; do
    read -r command argument || continue
    case $command in
        file) # so many MiB of page cache that nobody writes again
            guest-probe fill $argument >/run/file
            echo "file sum=$(md5sum </run/file | cut -c 1-32)" ;;
        sum) echo "sum sum=$(md5sum </run/file | cut -c 1-32)" ;;
        cache) dd if=/dev/vda of=/dev/null bs=1M 2>/dev/null; echo "cache $(grep ^Buffers: /proc/meminfo)" ;;
        drop) sync; echo 3 >/proc/sys/vm/drop_caches; echo "drop $(grep ^Buffers: /proc/meminfo)" ;;
        count) count & ;;
        watch) guest-probe watch & ;;
        hogs) # so many that never sleep
            while [ "$argument" -gt 0 ]; do argument=$((argument - 1)); (while :; do :; done) & done
            echo "hogs started" ;;
        load) guest-probe load /run/file & ;;
        clock) echo "clock $(guest-probe clock) date=$(date +%s)" ;;
        pin) # the chip that an interrupt comes by
            echo "pin $(cat /sys/kernel/irq/$argument/chip_name)" ;;
        told) # of devices
            echo "told $(grep -o 'virtio_mmio[^ ]*' /proc/cmdline)" ;;
        source) echo "source $(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)" ;;
        nap) guest-probe nap $argument ;;
        clear) dmesg -c >/dev/null; echo "clear done" ;;
        dmesg) complaints ;;
        module) /modules/load; echo "module done" ;;
        numbers) guest-probe numbers & ;;
        draw) # as a program that wants a key does it
            drawn="$(head -c 32 /dev/urandom | md5sum | cut -c 1-32) $(cat /proc/sys/kernel/random/uuid)"
            echo "draw $drawn" ;;
        reseed) # the README's recipe, and in between a look at the bytes that it feeds
            dd if=/dev/hwrng of=/dev/null bs=256 count=1 2>/dev/null
            dd if=/dev/hwrng of=/run/fed bs=64 count=1 2>/dev/null
            cat /run/fed >/dev/urandom && guest-probe reseed; echo "reseed $? fed=$(md5sum </run/fed | cut -c 1-32)" ;;
        hwrng) # the next 512 bytes of the entropy device, in pieces of 8
            echo "hwrng $(dd if=/dev/hwrng bs=512 count=1 2>/dev/null | od -An -v -tx8 -w512)" ;;
        forks) echo "forks $(dmesg | grep -c 'crng reseeded due to virtual machine fork')" ;;
        serve) guest-probe serve $argument & ;;
        call) guest-probe call $argument ;;
        hold) guest-probe hold $argument & ;;
        ready) guest-probe ready; echo "ready said" ;;
        port) printf '\001' | dd of=/dev/port bs=1 seek=1504 2>/dev/null; echo "port $?" ;;
        poweroff) poweroff -f ;;
        reboot) reboot -f ;;
        panic) echo c >/proc/sysrq-trigger ;;
        hard) echo 1 >/proc/sys/kernel/ctrl-alt-del; echo "hard done" ;;
        *) echo "unknown $command" ;;
    esac
done
