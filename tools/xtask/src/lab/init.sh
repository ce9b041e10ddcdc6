#!/bin/busybox sh
# The first process of the lab: brings up KVM and the outer file system, runs /job/command in it, reports how
# it ended.
#
# Standard output here is the console, which is a log. The command's own output and the reports go through
# three ports: `out`, `err`, and `ctl` with the lines `ready UPTIME`, `kernel COMPLAINT`, `failed WHY` and
# `exit STATUS`. They are virtio-serial ports, or what /job/ports says: then this machine has no virtio, so there
# is no outer file system either, and all that the command needs is in the initramfs.
export PATH=/bin

mkdir -p /dev /proc /sys /outer /lower
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
/modules/load

port() { # NAME: prints the device of the port of that name, once it is there
    if [ -e /job/ports ]; then
        device=$(sed -n "s/^$1 //p" /job/ports)
        stty -F "$device" raw -echo 115200 && echo "$device"
        return
    fi
    tries=0
    while [ $tries -lt 100 ]; do
        for dir in /sys/class/virtio-ports/*; do
            [ "$(cat "$dir/name" 2>/dev/null)" = "$1" ] && echo "/dev/${dir##*/}" && return
        done
        tries=$((tries + 1))
        usleep 50000
    done
}

ctl=$(port ctl)
if [ -z "$ctl" ]; then
    echo "lab: no control port"
    poweroff -f
fi
exec 3>"$ctl"
fail() {
    echo "lab: $1"
    echo "failed $1" >&3
    poweroff -f
}

# The outer root, read-only; nothing changes it from here, so whatever was read once stays cached.
mount_outer() {
    mount -t 9p -o ro,trans=virtio,version=9p2000.L,msize=512000,cache=loose outer /lower ||
        fail "cannot mount the outer file system"
    mount --bind /lower /outer || fail "cannot bind the outer file system"
    mount -t devtmpfs devtmpfs /outer/dev || fail "cannot mount /dev"
    mount -t proc proc /outer/proc || fail "cannot mount /proc"
    mount -t sysfs sysfs /outer/sys || fail "cannot mount /sys"
}

# What the command needs of directories that are fresh here is brought back, in its own place.
bring_back() {
    while read -r path; do
        [ -e "/outer$path" ] && continue
        if [ -d "/lower$path" ]; then
            mkdir -p "/outer$path"
        else
            mkdir -p "/outer${path%/*}"
            : >"/outer$path"
        fi
        mount --bind "/lower$path" "/outer$path" || fail "cannot bring back $path"
    done </job/keep
}

if [ -e /job/ports ]; then
    outer=
    mkdir -p /run /tmp
    while read -r path; do mkdir -p "$path"; done </job/keep
else
    outer=/outer
    mount_outer
fi
mkdir -p $outer/dev/pts $outer/dev/shm
mount -t devpts devpts $outer/dev/pts
mount -t tmpfs -o mode=1777,size=50% tmpfs $outer/dev/shm
mount -t tmpfs -o mode=755 tmpfs $outer/run || fail "cannot mount /run"
mount -t tmpfs -o mode=1777,size=50%,nr_inodes=1m tmpfs $outer/tmp || fail "cannot mount /tmp"
[ -d $outer/sys/kernel/debug ] && mount -t debugfs debugfs $outer/sys/kernel/debug
for link in fd:/proc/self/fd stdin:/proc/self/fd/0 stdout:/proc/self/fd/1 stderr:/proc/self/fd/2; do
    [ -e "$outer/dev/${link%%:*}" ] || ln -s "${link#*:}" "$outer/dev/${link%%:*}"
done
if [ -n "$outer" ]; then
    bring_back
    mkdir -p /outer/run/share
    mount -t 9p -o rw,trans=virtio,version=9p2000.L,msize=512000,cache=mmap,access=any share /outer/run/share ||
        fail "cannot mount the share"
fi

hostname lab
ip link set lo up
ulimit -n 65536
ulimit -l unlimited
mkdir -p $outer/run/lab
cp /job/command $outer/run/lab/command
[ -c /dev/kvm ] || fail "there is no /dev/kvm in the lab"

# Pipes between the command and the ports: a pipe can be opened again by name, a port cannot.
mkfifo /out /err
cat /out >"$(port out)" &
out=$!
cat /err >"$(port err)" &
err=$!
read -r up _ </proc/uptime
echo "ready $up" >&3
chroot "${outer:-/}" /bin/sh /run/lab/command </dev/null >/out 2>/err
status=$?

# What the command said goes out before its status does, unless something it left behind holds on to a pipe.
tries=0
while [ $tries -lt 50 ] && { kill -0 $out || kill -0 $err; } 2>/dev/null; do
    tries=$((tries + 1))
    usleep 20000
done
dmesg | grep -E 'WARNING:|BUG:|Oops' | while read -r line; do echo "kernel $line" >&3; done
sync
echo "exit $status" >&3
poweroff -f
