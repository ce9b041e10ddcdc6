#!/bin/busybox sh
# modules: virtio_mmio virtio_net
# Has one network interface and an address on it, talks over TCP, and answers commands typed on the console: what the
# test of network interfaces looks at. Every answer is one line and begins with the command's name.
export PATH=/bin
mkdir -p /proc /sys /dev /run
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs -o size=80m tmpfs /run
stty -echo
/modules/load
host=192.0.2.1
interface=$(ls /sys/class/net | grep -v '^lo$')
ip link set lo up
ip link set "$interface" up
ip addr add 192.0.2.2/24 dev "$interface"

talk() { # gives back to the host's port what comes from there, and connects again when that has ended
    mkfifo /run/talk
    while :; do
        nc $host "$1" </run/talk | cat >/run/talk
        echo "talk ended"
        usleep 100000
    done
}

echo "guest $(uname -r) cpus=$(nproc) mac=$(cat "/sys/class/net/$interface/address") mtu=$(cat "/sys/class/net/$interface/mtu")"
while :; do
    read -r command argument || continue
    case $command in
        talk) talk "$argument" & ;;
        get) echo "get $(nc $host "$argument" </dev/null | sha256sum | cut -c 1-64)" ;;
        put) # what was filled, and its checksum
            guest-probe send $host:"$argument" </run/file
            echo "put $(sha256sum </run/file | cut -c 1-64)" ;;
        fill) guest-probe fill "$argument" >/run/file; echo "fill done" ;;
        link) echo "link $(cat "/sys/class/net/$interface/carrier") changes=$(cat "/sys/class/net/$interface/carrier_changes")" ;;
        *) echo "unknown $command" ;;
    esac
done
