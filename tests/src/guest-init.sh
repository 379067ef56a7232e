#!/bin/busybox sh
# Process 1 of a guest. The kernel's console is the first serial port. The second one, or where
# there is only one that, carries what the steps print, framed so that the harness can tell the
# steps apart. A frame is words between record separators (0x1e).

export PATH=/bin HOME=/tmp
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs tmp /tmp

port=ttyS1
[ "$(cat /sys/class/tty/$port/type)" != 0 ] || port=ttyS0
stty -F /dev/$port raw
exec </dev/null >/dev/$port 2>&1

frame() {
    printf '\036%s\036' "$*"
}

# run NUMBER COMMAND...
run() {
    number=$1
    shift
    frame begin "$number" "$(cut -d' ' -f1 /proc/uptime)"
    "$@"
    status=$?
    frame end "$number" "$(cut -d' ' -f1 /proc/uptime)" $status
}

for step in /steps/*; do
    run "${step##*/}" sh "$step"
done
run dmesg dmesg -r
poweroff -f
