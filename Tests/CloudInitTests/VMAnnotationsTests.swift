import Errors
import Testing

@testable import CloudInit

/// What annotations mean, by Virtlet's code and docs/vm-pods.md.
@Suite(.timeLimit(.minutes(1))) struct VMAnnotationsTests {
    @Test func withoutAnyThereAreDefaults() throws {
        let none = try VMAnnotations(pod: ["kubernetes.io/config.source": "api", "VirtletUnknown": "x", "swiftlet/log-directory": "/a"])
        #expect(none.rootSize == nil && none.vcpus == nil && none.memory == nil && none.cpu == nil && none.systemUUID == nil)
        #expect(none.diskBus == .scsi && none.firmware == .bios && none.graphics == .vnc && none.reboot == .restart && none.agent == .auto)
        #expect(none.seedFormat == .noCloud && none.networkConfig == .static && none.instanceID == nil)
        #expect(
            !none.hasTPM && !none.overwritesPersistentRoot && none.watchdog == nil && none.dataVolumes.isEmpty && none.seedVolumes == .none)
        #expect(try none.seedData(from: []) == SeedData())
    }

    @Test func virtletsAreReadAsItsCodeReadsThem() throws {
        let read = try VMAnnotations(pod: [
            "VirtletVCPUCount": "2", "VirtletDiskDriver": "virtio", "VirtletRootVolumeSize": "4Gi",
            "VirtletSystemUUID": "53008994-44c0-4017-ad44-9c49758083da", "VirtletCloudInitImageType": "ConfigDrive",
            "VirtletForceDHCPNetworkConfig": "true", "VirtletChown9pfsMounts": "true", "VirtletCPUModel": "host-model",
        ])
        #expect(read.vcpus == 2 && read.diskBus == .virtio && read.rootSize == 4 << 30 && read.seedFormat == .configDrive)
        #expect(read.systemUUID == "53008994-44c0-4017-ad44-9c49758083da" && read.networkConfig == .dhcp)
        #expect(read.cpu?.mode == .hostModel && read.cpu?.nestedVirtualization == true && read.cpu?.allowsFallback == false)
        // Zero and less are one CPU, zero bytes are the image's, and anything but "true" is false.
        let odd = try VMAnnotations(pod: [
            "VirtletVCPUCount": "-3", "VirtletRootVolumeSize": "0", "VirtletForceDHCPNetworkConfig": "True", "VirtletDiskDriver": "",
            "VirtletCPUModel": "", "VirtletCloudInitImageType": "",
        ])
        #expect(odd.vcpus == 1 && odd.rootSize == nil && odd.networkConfig == .static && odd.diskBus == .scsi)
    }

    @Test func oursAreReadAsTheTableSays() throws {
        let read = try VMAnnotations(
            pod: [
                "swiftlet/vcpus": "4", "swiftlet/memory": "512Mi", "swiftlet/disk-bus": "sata", "swiftlet/root-size": "1.5Gi",
                "swiftlet/firmware": "uefi", "swiftlet/tpm": "true", "swiftlet/watchdog": "reset", "swiftlet/graphics": "virgl",
                "swiftlet/reboot": "exit", "swiftlet/agent": "none", "swiftlet/persistent-root-overwrite": "true", "swiftlet/seed": "none",
                "swiftlet/root-volume": "/disk/", "swiftlet/state-volume": "/state", "swiftlet/memory-max": "2Gi",
                "swiftlet/vcpus-max": "16",
                "swiftlet/system-uuid": "5300899444C04017AD449C49758083DA", "swiftlet/cpu-model": "Westmere",
                "swiftlet/network-config": "none", "swiftlet/seed-volumes": "/etc/a, /etc/b/", "swiftlet/instance-id": "one",
                "swiftlet/data-volumes": """
                - {name: docker, size: 2Gi, mountPath: /var/lib/docker}
                - {name: raw, devicePath: /dev/raw, filesystem: xfs}
                """,
            ], container: ["swiftlet/vcpus": "8"])
        #expect(read.vcpus == 8 && read.memory == 512 << 20 && read.diskBus == .sata && read.rootSize == 3 << 29)
        #expect(read.firmware == .uefi && read.hasTPM && read.watchdog == .reset && read.graphics == .virgl && read.reboot == .exit)
        #expect(read.agent == .none)
        #expect(read.rootVolume == "/disk" && read.stateVolume == "/state" && read.mostMemory == 2 << 30 && read.mostVCPUs == 16)
        #expect(read.overwritesPersistentRoot && read.seedFormat == nil && read.networkConfig == .none && read.instanceID == "one")
        #expect(read.systemUUID == "53008994-44c0-4017-ad44-9c49758083da" && read.cpu == CPUSetting(mode: .custom, model: "Westmere"))
        #expect(read.seedVolumes == .paths(["/etc/a", "/etc/b"]))
        #expect(
            read.dataVolumes == [
                DataVolume(name: "docker", size: 2 << 30, mountPath: "/var/lib/docker", devicePath: nil, filesystem: "ext4"),
                DataVolume(name: "raw", size: 1_024_000_000, mountPath: nil, devicePath: "/dev/raw", filesystem: "xfs"),
            ])
    }

    @Test func libvirtsCPUIsReadWithKeysInEitherCase() throws {
        for text in [
            "mode: custom\nmodel: {value: Westmere, fallback: forbid}\nmatch: exact\nfeatures:\n- name: avx\n  policy: disable\n- name: vmx\n",
            "{\"Mode\": \"custom\", \"Model\": {\"Value\": \"Westmere\", \"Fallback\": \"forbid\"}, \"Match\": \"exact\","
                + " \"Features\": [{\"Name\": \"avx\", \"Policy\": \"disable\"}, {\"Name\": \"vmx\"}]}",
        ] {
            var expected = CPUSetting(mode: .custom, model: "Westmere")
            expected.allowsFallback = false
            expected.match = .exact
            expected.features = [.init(name: "avx", policy: .disable), .init(name: "vmx", policy: .require)]
            // It beats the model, as in Virtlet.
            #expect(try VMAnnotations(pod: ["VirtletLibvirtCPUSetting": text, "VirtletCPUModel": "host-model"]).cpu == expected)
        }
    }

    @Test(arguments: [
        ("VirtletVCPUCount", "two", "\"two\" is no whole number"), ("VirtletVCPUCount", "256", "\"256\" is not from 1 to 255"),
        ("swiftlet/vcpus", "0", "\"0\" is not from 1 to 255"), ("VirtletDiskDriver", "ide", "\"ide\" is none of scsi, virtio, sata"),
        ("VirtletRootVolumeSize", "4GB", "\"4GB\" is no quantity such as 512Mi or 4Gi"),
        ("swiftlet/root-size", "0", "\"0\" is not from 1Mi to 64Ti"), ("swiftlet/memory", "1Mi", "\"1Mi\" is not from 32Mi to 16Ti"),
        ("VirtletCPUModel", "host", "\"host\" is not host-model, all that it may be"),
        ("swiftlet/cpu-model", "a'><b", "\"a'><b\" is no CPU model, nor host-model, host-passthrough or maximum"),
        ("VirtletSystemUUID", "53008994", "\"53008994\" is no UUID"), ("swiftlet/firmware", "UEFI", "\"UEFI\" is none of bios, uefi"),
        ("swiftlet/tpm", "yes", "\"yes\" is neither true nor false"),
        ("swiftlet/watchdog", "none", "\"none\" is none of reset, poweroff, pause"),
        ("swiftlet/graphics", "", "\"\" is none of none, vnc, virgl"), ("swiftlet/reboot", "never", "\"never\" is none of restart, exit"),
        ("swiftlet/agent", "qemu", "\"qemu\" is none of auto, none"),
        ("swiftlet/data-volumes", "[{name: tools}]", "tools: a disk of the machine's own has this name"),
        ("VirtletCloudInitImageType", "none", "\"none\" is none of nocloud, configdrive, none"),
        ("VirtletCloudInitMetaData", "- a", "not a mapping of keys to values"),
        ("VirtletCloudInitUserData", "#!/bin/sh\n- a", "not a mapping of keys to values"),
        ("VirtletCloudInitUserData", "a: [b", "YAML, line 1: did not find expected ',' or ']'"),
        ("VirtletSSHKeys", "nonsense", "not one SSH public key a line"),
        ("VirtletSSHKeySource", "configmap", "\"configmap\" is not configmap/NAME[/KEY] or secret/NAME[/KEY]"),
        ("VirtletCloudInitUserDataSource", "configmap/a/b", "\"configmap/a/b\" is not configmap/NAME or secret/NAME"),
        ("VirtletCloudInitUserDataSourceKey", "a", "given without VirtletCloudInitUserDataSource"),
        ("VirtletCloudInitUserDataSourceEncoding", "gzip", "\"gzip\" is none of plain, base64"),
        ("swiftlet/user-data-from", "a/../b", "\"a/../b\" is no path of one of the pod's mounts, or of a file in it"),
        ("swiftlet/network-config", "v1", "\"v1\" is none of static, dhcp, none"),
        ("swiftlet/instance-id", "a b", "\"a b\" is not 1 to 128 printable characters without spaces, quotes and slashes"),
        ("swiftlet/seed-volumes", "relative", "\"relative\" is neither all nor a list of the mounts' paths"),
        ("swiftlet/data-volumes", "{}", "not a list of at most 20 volumes"),
        ("swiftlet/data-volumes", "[{name: a}, {name: a}]", "two volumes have the same name"),
        ("swiftlet/data-volumes", "[{name: a, colour: red}]", "\"colour\" is none of its keys"),
        ("swiftlet/data-volumes", "[{name: a, size: 1}]", "a: size \"1\" is no quantity from 1Mi to 64Ti"),
        ("swiftlet/data-volumes", "[{name: a, mountPath: /}]", "a: mountPath is no absolute path below /"),
        ("swiftlet/data-volumes", "[{name: a, mountPath: \"/a\\nb\"}]", "a: mountPath is no absolute path below /"),
        ("swiftlet/data-volumes", "[{name: a, devicePath: /etc/passwd}]", "a: devicePath is no path below /dev"),
        ("swiftlet/data-volumes", "[{name: a, filesystem: ntfs}]", "a: filesystem \"ntfs\" is none of ext4, xfs, btrfs"),
        ("swiftlet/cpu", "mode: host-model\nmodel: x", "mode host-model takes no model"),
        (
            "swiftlet/cpu", "features: [{name: \"a'b\"}]\nmodel: x",
            "a feature needs a name, and a policy that is force, require, optional, disable or forbid"
        ),
        ("swiftlet/scratch-size", "1Gi", "a VM pod has no scratch disk; its root disk's size is swiftlet/root-size"),
        ("swiftlet/fimware", "uefi", "a VM pod has no such annotation"),
    ])
    func whatIsWrongIsNamed(_ name: String, _ value: String, _ problem: String) {
        let error = #expect(throws: SwiftletError.self) { try VMAnnotations(pod: [name: value]) }
        #expect(error?.code == .invalidArgument && error?.message == "annotations: \(name): \(problem)", "\(error?.message ?? "")")
    }

    @Test func allThatIsWrongIsSaidAtOnce() {
        let error = #expect(throws: SwiftletError.self) {
            try VMAnnotations(pod: [
                "VirtletVCPUCount": "x", "swiftlet/tpm": "1", "swiftlet/typo": "", "swiftlet/vcpus": "2",
                "swiftlet/data-volumes": "[{name: this-name-is-longer-than-thirty-six-bytes}]",
            ])
        }
        let message = error?.message ?? ""
        for part in ["swiftlet/vcpus: given beside VirtletVCPUCount", "swiftlet/tpm: ", "swiftlet/typo: ", "1 to 36 lower-case letters"] {
            #expect(message.contains(part), "\(message)")
        }
    }

    @Test func whatIsTooLargeIsRefused() {
        for name in ["swiftlet/user-data", "VirtletCloudInitUserData", "swiftlet/data-volumes", "VirtletSSHKeys"] {
            #expect(throws: SwiftletError.self) { try VMAnnotations(pod: [name: String(repeating: "a: b\n", count: 60_000)]) }
        }
    }
}
