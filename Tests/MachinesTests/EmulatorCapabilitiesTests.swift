import Foundation
import Support
import Testing

@testable import Machines

@Suite struct EmulatorCapabilitiesTests {
    private static let emulator = "/usr/bin/qemu-system-x86_64"

    /// As libvirt 9.0 writes it, with one of each.
    private static func whole(_ emulator: String = emulator) -> String {
        """
        <?xml version='1.0'?>
        <qemuCaps>
          <emulator>\(emulator)</emulator>
          <qemuctime>1795843497</qemuctime>
          <selfvers>9000000</selfvers>
          <flag name='kvm'/>
          <package>Debian 1:7.2 &amp; &lt;more&gt;</package>
          <cpudata arch='x86'>
            <cpuid eax_in='0x0' ecx_in='0x0' eax='0xd'/>
          </cpudata>
          <hostCPU type='kvm' model='base' migratability='yes'>
            <property name='vmx' type='boolean' value='false'/>
          </hostCPU>
          <hostCPU type='tcg' model='base' migratability='yes'>
            <property name='pni' type='boolean' value='true'/>
          </hostCPU>
          <cpu type='kvm' name='max' typename='max-x86_64-cpu' usable='yes'/>
          <cpu type='kvm' name='EPYC' typename='EPYC-x86_64-cpu' usable='no'>
            <blocker name='npt'/>
          </cpu>
          <cpu type='tcg' name='max' typename='max-x86_64-cpu' usable='yes'/>
          <cpu type='tcg' name='EPYC' typename='EPYC-x86_64-cpu' usable='no'>
            <blocker name='rdseed'/>
            <blocker name='xsavec'/>
          </cpu>
          <machine type='kvm' name='pc-q35-7.2' alias='q35' hotplugCpus='yes' maxCpus='288'/>
          <machine type='tcg' name='pc-q35-7.2' alias='q35' hotplugCpus='yes' maxCpus='288'/>
        </qemuCaps>

        """
    }

    /// sha256sum's of the paths.
    private static let files = [
        emulator: "926803a9278e445ec919c2b6cbd8c1c449c75b26dcb1686b774314180376c725.xml",
        "/usr/bin/./qemu-system-x86_64": "39e48896031ec4b16531589868d2cff03f495b0bd7eaaed9958bbc0c01cdce75.xml",
        "/usr/bin/././qemu-system-x86_64": "34f62d3bae6f5b4ba8dccbdcdcee2c22bf3966d88ed133b15dba44cdd487c245.xml",
    ]

    private static func withDirectory(_ text: String?, _ body: (EmulatorCapabilities, (String) throws -> String) throws -> Void) throws {
        let directory = try HeldDirectory("swiftlet-capabilities-")
        func path(_ emulator: String) throws -> String { "\(directory.path)/\(try #require(files[emulator]))" }
        if let text { try Data(text.utf8).write(to: URL(fileURLWithPath: path(emulator))) }
        try body(EmulatorCapabilities(directory: directory.path)) { try String(contentsOfFile: path($0), encoding: .utf8) }
        directory.remove()
    }

    @Test func libvirtFindsOfEachAcceleratorWhatItsMachinesNeed() throws {
        try Self.withDirectory(Self.whole()) { capabilities, text in
            let paths = try capabilities.prepare(Self.emulator)
            #expect(paths == [.tcg: "/usr/bin/./qemu-system-x86_64", .kvm: "/usr/bin/././qemu-system-x86_64"])
            #expect(try text(Self.emulator) == Self.whole())
            for (accelerator, path) in paths {
                let (other, found) = (accelerator == .kvm ? "tcg" : "kvm", try XMLTag(parsing: text(path)))
                let all = try XMLTag(parsing: Self.whole())
                #expect(found["emulator"]?.text == path)
                for name in ["qemuctime", "selfvers", "flag", "package", "cpudata", "machine"] {
                    #expect(found.all(name) == all.all(name) && !found.all(name).isEmpty, "\(name)")
                }
                #expect(found.all("hostCPU") == all.all("hostCPU").filter { $0.attribute("type") != other })
                let models = found.all("cpu")
                #expect(models.map { $0.attribute("name") } == ["max", "EPYC"])
                #expect(models.allSatisfy { $0.attribute("type") == accelerator.rawValue && $0.attribute("usable") != nil })
                #expect(models.flatMap(\.children).count == (accelerator == .kvm ? 1 : 0))
            }
        }
    }

    /// Of another version of libvirt, of another QEMU, broken, or not there.
    @Test(arguments: [nil, "", "<qemuCaps>", "<other><emulator>/usr/bin/qemu-system-x86_64</emulator></other>", whole("/usr/bin/qemu")])
    func machinesHaveLibvirtsChoiceWhereItsFileIsNotAsExpected(text: String?) throws {
        try Self.withDirectory(text) { capabilities, _ in
            #expect(try capabilities.prepare(Self.emulator).isEmpty)
            let names = try FileManager.default.contentsOfDirectory(atPath: capabilities.directory)
            #expect(names.count == (text == nil ? 0 : 1))
        }
    }

    @Test func domainsGetTheQEMUOfTheirAccelerator() throws {
        var spec = MachineSpec.minimal()
        let host = HostProfile(emulators: [.tcg: "/t", .kvm: "/k"])
        for (accelerator, path) in [(Accelerator.tcg, "/t"), (.kvm, "/k")] {
            spec.shape.accelerator = accelerator
            #expect(try DomainBlueprint(host: host).xml(spec).contains("<emulator>\(path)</emulator>"))
            #expect(try !DomainBlueprint().xml(spec).contains("<emulator>"))
            let chosen = HostProfile(emulator: "/own", emulators: host.emulators)
            #expect(try DomainBlueprint(host: chosen).xml(spec).contains("<emulator>/own</emulator>"))
        }
    }
}
