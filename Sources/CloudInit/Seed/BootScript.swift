import Foundation
import GuestHardware
import Runtime

/// What the guest does at every boot with what it was given: environment, files, disks and shares. For a POSIX shell, busybox' as well.
///
/// It is a boothook and no cloud-config because cloud-init takes a list such as `mounts`, `bootcmd` or `write_files` from vendor-data only
/// where user-data has none of that name (`util.mergemanydict`), and because boothooks run before all modules, so that `mounts` of
/// user-data find the links below /dev.
struct BootScript {
    /// Vendor-data.
    let boothook: String
    /// Links and mounts alone, for a script that asks for them. May run beside the boothook.
    let mounts: String

    init(_ request: SeedRequest) {
        let disks = request.disks.flatMap(Self.disk)
        let shares = request.shares.flatMap(Self.share)
        let mounts = disks + shares
        let once = Self.once(request)
        self.mounts = mounts.isEmpty ? "" : (["("] + Self.functions + mounts + [")"]).joined(separator: "\n")
        let body = once + mounts + request.bootCommands
        boothook = (["#cloud-boothook", "#!/bin/sh"] + Self.functions + body + ["exit 0", ""]).joined(separator: "\n")
    }

    /// A word of the shell, whatever is in it.
    static func quoted(_ text: String) -> String { "'" + text.replacingOccurrences(of: "'", with: "'\\''") + "'" }

    private static let functions = [
        "swiftlet_say() { echo \"swiftlet: $*\" >&2; }",
        // udev's link, or the disk's serial number where there is no udev: of SCSI, in vital product data page 80h behind four bytes.
        "swiftlet_disk() {",
        "  n=0",
        "  while [ $n -lt 50 ]; do",
        "    [ -e \"$1\" ] && { readlink -f \"$1\"; return 0; }",
        "    for b in /sys/block/*; do",
        "      s=$(cat \"$b/serial\" 2>/dev/null || tail -c +5 \"$b/device/vpd_pg80\" 2>/dev/null)",
        "      [ \"$s\" = \"$2\" ] && { echo \"/dev/${b##*/}\"; return 0; }",
        "    done",
        "    n=$((n + 1)); sleep 0.2 2>/dev/null || sleep 1",
        "  done",
        "  swiftlet_say \"no disk with serial number $2\"; return 1",
        "}",
        "swiftlet_link() { mkdir -p \"${2%/*}\" && ln -sfn \"$1\" \"$2\" || swiftlet_say \"cannot link $2\"; }",
        "swiftlet_mount() {",
        "  p=$1; shift",
        "  mountpoint -q \"$p\" && return 0",
        "  mkdir -p \"$p\" && mount \"$@\" \"$p\" || swiftlet_say \"cannot mount $p\"",
        "}",
        // Whether there are zeros alone where filesystems, partition tables and volume managers write what they are known by: in the first
        // 4 MiB and the last one. blkid alone does not do: it says nothing where it finds two things, nor where it finds what it does not
        // know, and busybox' has no -p.
        "swiftlet_zeros() {",
        "  r=$(dd if=\"$1\" bs=65536 skip=\"$2\" count=\"$3\" 2>/dev/null | wc -c)",
        "  w=$(dd if=\"$1\" bs=65536 skip=\"$2\" count=\"$3\" 2>/dev/null | tr -d '\\000' | wc -c)",
        "  [ \"$r\" -gt 0 ] && [ \"$w\" -eq 0 ]",
        "}",
        "swiftlet_blank() {",
        "  z=$(($(cat \"/sys/class/block/${1##*/}/size\" 2>/dev/null || echo 0) * 512))",
        "  [ \"$z\" -gt 0 ] || z=$(wc -c <\"$1\")",
        "  [ \"$z\" -gt 0 ] && swiftlet_zeros \"$1\" 0 64 || return 1",
        "  [ \"$z\" -le 4194304 ] || swiftlet_zeros \"$1\" $(((z - 1) / 65536 - 16)) 17 || return 1",
        "  command -v blkid >/dev/null && [ -n \"$(blkid \"$1\" 2>/dev/null)\" ] && return 1",
        "  command -v wipefs >/dev/null && [ -n \"$(wipefs -n \"$1\" 2>/dev/null)\" ] && return 1",
        "  return 0",
        "}",
        // The disk may be one from before, or one that something else has been written to: only what is blank for certain is made one.
        "swiftlet_format() {",
        "  swiftlet_blank \"$1\" || return 0",
        "  \"mkfs.$2\" -q \"$1\" >/dev/null || swiftlet_say \"cannot make $2 on $1\"",
        "}",
        "swiftlet_file() {",
        "  mkdir -p \"${2%/*}\" && (umask 077; base64 -d >\"$2.swiftlet\") && chmod \"$1\" \"$2.swiftlet\" && mv \"$2.swiftlet\" \"$2\" \\",
        "    || swiftlet_say \"cannot write $2\"",
        "}",
    ]

    private static func disk(_ disk: GuestDisk) -> [String] {
        let serial = String(disk.serial.prefix(disk.bus.longestSerial))
        var acts: [String] = []
        if let path = disk.devicePath { acts.append("  swiftlet_link \"$d\" \(quoted(path))") }
        if let path = disk.mountPath {
            if let filesystem = disk.filesystem { acts.append("  swiftlet_format \"$d\" \(quoted(filesystem))") }
            acts.append("  swiftlet_mount \(quoted(path)) \"$d\"")
        }
        guard !acts.isEmpty else { return [] }
        return ["if d=$(swiftlet_disk \(quoted(disk.deviceLink)) \(quoted(serial))); then"] + acts + ["fi"]
    }

    private static func share(_ share: GuestShare) -> [String] {
        let tag = quoted(share.tag)
        let path = quoted(share.path)
        let mode = share.isReadOnly ? "ro" : "rw"
        if share.subPath.isEmpty, !share.isFile { return ["swiftlet_mount \(path) -t virtiofs -o \(mode) \(tag)"] }
        // The device is mounted once, out of sight; its parts are bound to their places.
        let base = "/run/swiftlet/shares/\(share.tag)"
        let source = quoted(share.subPath.isEmpty ? base : "\(base)/\(share.subPath)")
        let bind = "mount -o bind \(source) \(path) && mount -o remount,bind,\(mode) \(path) || swiftlet_say cannot mount \(path)"
        let place =
            share.isFile
            ? "mkdir -p \(quoted(String(share.path[..<(share.path.lastIndex(of: "/") ?? share.path.startIndex)]) + "/")) && : >>\(path)"
            : "mkdir -p \(path)"
        return [
            "swiftlet_mount \(quoted(base)) -t virtiofs \(tag)",
            "grep -q \" \"\(quoted(mountTableForm(share.path)))\" \" /proc/mounts || { \(place) && \(bind); }",
        ]
    }

    /// A path as /proc/mounts has it, as a pattern of grep's.
    private static func mountTableForm(_ path: String) -> String {
        let escaped = path.replacingOccurrences(of: "\\", with: "\\134").replacingOccurrences(of: " ", with: "\\040")
            .replacingOccurrences(of: "\t", with: "\\011")
        return String(escaped.flatMap { "\\.*[]^$".contains($0) ? "\\\($0)" : String($0) })
    }

    /// Written when the instance is new: what the guest has changed since is kept.
    private static func once(_ request: SeedRequest) -> [String] {
        var files = request.data.files
        let environment = Self.environment(request.environment)
        if !environment.isEmpty {
            // Readable by all, as Virtlet wrote it: services of any user may ask for it.
            files.insert(SeedData.File(path: "/etc/cloud/environment", contents: environment, mode: 0o644), at: 0)
        }
        guard !files.isEmpty else { return [] }
        let id = quoted(request.annotations.instanceID ?? request.pod.uid)
        let writes = files.flatMap { file in
            ["swiftlet_file \(String(file.mode & 0o7777, radix: 8)) \(quoted(file.path)) <<'END'", lines(file.contents), "END"]
        }
        return ["if [ \"$(cat /var/lib/swiftlet/instance 2>/dev/null)\" != \(id) ]; then"] + writes + [
            "mkdir -p /var/lib/swiftlet && echo \(id) >/var/lib/swiftlet/instance", "fi",
        ]
    }

    private static func lines(_ contents: [UInt8]) -> String {
        Data(contents).base64EncodedString(options: [.lineLength76Characters, .endLineWithLineFeed])
    }

    /// As systemd's EnvironmentFile= and a shell read it. A later entry of the same name wins.
    private static func environment(_ entries: [RawText]) -> [UInt8] {
        var values: [[UInt8]: [UInt8]] = [:]
        var order: [[UInt8]] = []
        for entry in entries {
            guard let equals = entry.bytes.firstIndex(of: UInt8(ascii: "=")), equals > 0 else { continue }
            let key = Array(entry.bytes[..<equals])
            if values.updateValue(Array(entry.bytes[(equals + 1)...]), forKey: key) == nil { order.append(key) }
        }
        return order.flatMap { key -> [UInt8] in key + [UInt8(ascii: "=")] + value(values[key] ?? []) + [0x0A] }
    }

    private static func value(_ bytes: [UInt8]) -> [UInt8] {
        let isPlain = bytes.allSatisfy { byte in
            (0x30...0x39).contains(byte) || (0x41...0x5A).contains(byte) || (0x61...0x7A).contains(byte) || "-_./:,@%+".utf8.contains(byte)
        }
        guard !isPlain else { return bytes }
        let escaped = bytes.flatMap { byte -> [UInt8] in "\"\\$`".utf8.contains(byte) ? [UInt8(ascii: "\\"), byte] : [byte] }
        return [UInt8(ascii: "\"")] + escaped + [UInt8(ascii: "\"")]
    }
}
