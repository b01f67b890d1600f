import Foundation
import Glibc
import Testing

@testable import CloudInit

/// What vendor-data's boothook does, done: below a root of its own, with directories in the place of virtiofs devices and files in that of disks.
@Suite(.enabled(if: geteuid() == 0), .timeLimit(.minutes(1))) final class BootScriptTests {
    private let directory = NSTemporaryDirectory() + "guest-\(UUID().uuidString)"

    deinit { try? FileManager.default.removeItem(atPath: directory) }

    /// - Returns: what `check` printed as the guest's root.
    private func boot(_ scripts: [String: String], check: String) async throws -> String {
        try FileManager.default.createDirectory(atPath: directory + "/root", withIntermediateDirectories: true)
        let files = scripts.merging(["mount": Self.mount, "check": check]) { $1 }
        for (name, text) in files {
            try Data(text.utf8).write(to: URL(filePath: "\(directory)/\(name)"))
        }
        let result = try await CloudInitProgram.run(
            "/usr/bin/unshare", ["--mount", "--propagation", "private", "/bin/sh", "-ec", Self.stage, "sh", directory])
        #expect(result.status == 0 && !result.errors.contains("swiftlet:"), "\(result.errors)")
        return result.output
    }

    private static let stage = """
        cd "$1"
        mount -t tmpfs tmpfs root
        mkdir root/guest
        install -m 755 mount root/guest/mount
        find . -maxdepth 1 -type f -exec cp {} root/ ';'
        cd root
        mkdir -p usr proc dev/disk/by-id sys/block/vdb etc tmp run var/lib virtiofs/share0 virtiofs/pod/abc/1
        mount --bind /usr usr
        ln -s usr/bin bin; ln -s usr/sbin sbin; ln -s usr/lib lib; ln -s usr/lib64 lib64
        mount -t proc proc proc
        cp -a /dev/null dev/
        : >dev/sda; ln -s ../../sda dev/disk/by-id/scsi-0QEMU_QEMU_HARDDISK_data
        truncate -s 32M dev/vdb; echo docker >sys/block/vdb/serial
        echo one >virtiofs/share0/file; echo two >virtiofs/pod/abc/1/a; echo three >virtiofs/pod/abc/2
        PATH=/guest:/usr/sbin:/usr/bin exec chroot . /bin/sh -e /check
        """

    /// The guest's mount(8), for which there are no devices.
    private static let mount = #"""
        #!/bin/sh
        for word; do tag=$path path=$word; done
        case "$1 $2" in
        "-t iso9660") exec /usr/bin/mount --bind /tools "$path" ;;
        "-t virtiofs") exec /usr/bin/mount --bind "/virtiofs/$tag" "$path" ;;
        "-o "*) exec /usr/bin/mount "$@" ;;
        *) exec /usr/bin/mount -t tmpfs tmpfs "$path" ;;
        esac
        """#

    private static func script(_ change: (inout SeedRequest) -> Void = { _ in }) throws -> String {
        var request = try SeedSamples.full()
        request.bootCommands = ["echo booted"]
        change(&request)
        return try #require(try SeedSamples.file("vendor-data", request))
    }

    @Test func everyBootLinksDisksAndMountsSharesOnce() async throws {
        let script = try Self.script()
        let output = try await boot(
            ["boot": script],
            check: #"""
                sh /boot
                made=$(blkid -o export /dev/vdb | grep -v DEVNAME)
                sh /boot
                readlink /dev/testpvc
                [ "$made" = "$(blkid -o export /dev/vdb | grep -v DEVNAME)" ] && blkid -o value -s TYPE /dev/vdb
                cat /mnt/share/file "/etc/it's config/a" /etc/hosts
                (echo no >"/etc/it's config/a") 2>/dev/null || echo read-only
                echo changed >/etc/hosts && cat /virtiofs/pod/abc/2
                for path in /mnt/share "/etc/it's\\\\040config" /etc/hosts /var/lib/docker; do grep -c " $path " /proc/mounts; done
                """#)
        #expect(output == "booted\nbooted\n/dev/sda\next4\none\ntwo\nthree\nread-only\nchanged\n1\n1\n1\n1\n")
    }

    /// By whatever blkid there is: of two signatures at once it says nothing, and of others' contents neither.
    @Test(arguments: ["", "exec /bin/busybox blkid \"$@\"", "exit 0"])
    func aDiskIsFormattedOnlyWhereItIsBlankForCertain(_ blkid: String) async throws {
        let script = try Self.script()
        let other = blkid.isEmpty ? "" : "printf '#!/bin/sh\\n\(blkid)\\n' >/guest/blkid; chmod 755 /guest/blkid"
        let output = try await boot(
            ["boot": script],
            check: #"""
                \#(other)
                put() { printf "$1" | dd of=/dev/vdb bs=1 seek="$2" conv=notrunc 2>/dev/null; }
                for content in ambivalent words end far; do
                  rm -f /dev/vdb; truncate -s 32M /dev/vdb
                  case $content in
                  ambivalent) mkfs.ext4 -q /dev/vdb; put SWAPSPACE2 4086 ;;
                  words) put words 0 ;;
                  end) put words $((32 * 1024 * 1024 - 512)) ;;
                  far) put words 3000000 ;;
                  esac
                  before=$(sha256sum /dev/vdb)
                  sh /boot >/dev/null
                  [ "$before" = "$(sha256sum /dev/vdb)" ] && echo $content is kept
                done
                rm -f /dev/vdb; truncate -s 32M /dev/vdb
                sh /boot
                /usr/sbin/blkid -p -o value -s TYPE /dev/vdb
                """#)
        #expect(output == "ambivalent is kept\nwords is kept\nend is kept\nfar is kept\nbooted\next4\n")
    }

    @Test func anInstancesFilesAreWrittenOnce() async throws {
        let file = SeedData.File(path: "/etc/app/a file", contents: Array("first'\n".utf8), mode: 0o600)
        let scripts = [
            "boot": try Self.script { $0.data.files = [file] },
            "other": try Self.script {
                $0.data.files = [file]
                $0.annotations.instanceID = "other"
            },
        ]
        let output = try await boot(
            scripts,
            check: """
                sh /boot
                stat -c '%a %s' "/etc/app/a file" /etc/cloud/environment
                echo mine >"/etc/app/a file"
                sh /boot
                cat "/etc/app/a file"
                sh /other
                cat "/etc/app/a file"
                ls /etc/app
                """)
        let size = Array(#"A=later\#nB="with space"\#nC="\"q\$\`\\"\#nE=\#n"#.utf8).count + 7
        #expect(output == "booted\n600 7\n644 \(size)\nbooted\nmine\nbooted\nfirst'\na file\n")
    }

    @Test func aShellReadsTheEnvironment() async throws {
        let output = try await boot(
            ["boot": try Self.script()],
            check: #"""
                sh /boot >/dev/null
                . /etc/cloud/environment
                printf '%s|' "$A" "$B" "$C" "$E"
                printf %s "$D" | od -An -tx1
                """#)
        #expect(output == "later|with space|\"q$`\\|| ff 0a\n")
    }

    /// A guest without systemd starts the agent again when it fails, and not when it has nothing to serve; at a second boot it is the same.
    @Test func theAgentIsStartedFromTheToolsDisk() async throws {
        let output = try await boot(
            ["boot": try Self.script { $0.bootCommands = AgentStart.commands }],
            check: #"""
                mkdir /tools; : >/dev/vdc; ln -s ../../vdc /dev/disk/by-id/virtio-tools; : >/dev/console
                printf '#!/bin/sh\necho "$0 $*" >>/started\n[ $(wc -l </started) -gt 1 ]\n' >/tools/swiftlet-agent
                chmod 755 /tools/swiftlet-agent
                sh /boot
                n=0; while [ "$(wc -l </started)" != 2 ] && [ $n -lt 100 ]; do n=$((n + 1)); sleep 0.1; done
                sleep 0.3
                cat /started
                mkdir -p /run/systemd/system
                printf '#!/bin/sh\necho systemctl "$*"\n' >/guest/systemctl
                chmod 755 /guest/systemctl
                sh /boot
                grep -c -e '^ExecStart=/run/swiftlet/tools/swiftlet-agent --service$' -e '^Restart=on-failure$' \
                    -e '^KillMode=process$' /run/systemd/system/swiftlet-agent.service
                grep -c swiftlet/tools /proc/mounts
                """#)
        let started = "/run/swiftlet/tools/swiftlet-agent --service\n"
        #expect(output == started + started + "systemctl start --no-block swiftlet-agent.service\n3\n1\n")
    }

    /// A guest without the device goes on booting, and says what is missing.
    @Test func aMissingDiskIsNamedAndHoldsNothingElseUp() async throws {
        let script = try Self.script { $0.disks.append(GuestDisk(serial: "absent", bus: .sata, mountPath: "/absent")) }
        let output = try await boot(
            ["boot": script],
            check: """
                printf '#!/bin/sh\\n' >/guest/sleep
                chmod 755 /guest/sleep
                sh /boot 2>&1 | grep -v mke2fs
                cat /mnt/share/file
                """)
        #expect(output == "swiftlet: no disk with serial number absent\nbooted\none\n")
    }

    /// A name with everything that a shell knows stays a name.
    @Test func namesAreNotExecuted() async throws {
        let name = #"/tmp/$(touch /owned)`touch /owned`';touch /owned;'"\ *"#
        let script = try Self.script { request in
            request.shares = [
                GuestShare(tag: "share0", path: name + "1", isReadOnly: false),
                GuestShare(tag: "pod", subPath: "abc/1", path: name + "2", isReadOnly: true),
                GuestShare(tag: "pod", subPath: "abc/2", path: name + "3", isReadOnly: false, isFile: true),
            ]
            request.disks = [GuestDisk(serial: "data", bus: .scsi, devicePath: name + "4", mountPath: name + "5")]
            request.data.files = [SeedData.File(path: name + "6/a", contents: Array("six\n".utf8), mode: 0o644)]
        }
        let output = try await boot(
            [
                "boot": script, "names": #"n=$(cat /name); cat "${n}1/file" "${n}2/a" "${n}3" "${n}6/a"; readlink "${n}4"; [ -d "${n}5" ]"#,
                "name": name,
            ],
            check: """
                sh /boot
                . /names
                [ ! -e /owned ]
                echo still
                """)
        #expect(output == "booted\none\ntwo\nthree\nsix\n/dev/sda\nstill\n")
    }

    @Test func busyboxsShellTakesItAsWell() async throws {
        for arguments in [
            ["sh", "-n", "-c", try Self.script()], ["sh", "-n", "-c", try Self.script { $0.disks = [] }],
            ["sh", "-n", "-c", try Self.script { $0.bootCommands = AgentStart.commands }],
        ] {
            let result = try await CloudInitProgram.run("/bin/busybox", arguments)
            #expect(result.status == 0, "\(result.errors)")
        }
    }
}
