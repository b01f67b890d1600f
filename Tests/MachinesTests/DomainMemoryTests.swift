import Testing

@testable import Machines

@Suite struct DomainMemoryTests {
    private let plain = """
        <domain type='qemu' id='1'>
          <name>x</name>
          <maxMemory slots='1' unit='KiB'>4194304</maxMemory>
          <memory unit='KiB'>262144</memory>
          <currentMemory unit='KiB'>262144</currentMemory>
        </domain>
        """

    private var grown: String {
        plain.replacing(">262144</memory>", with: ">4194304</memory>").replacing(
            "</domain>",
            with: """
                  <devices>
                    <memory model='virtio-mem' access='shared'>
                      <target>
                        <size unit='KiB'>3932160</size>
                        <node>0</node>
                        <block unit='KiB'>2048</block>
                        <requested unit='KiB'>262144</requested>
                        <current unit='KiB'>131072</current>
                      </target>
                      <alias name='virtiomem0'/>
                    </memory>
                  </devices>
                </domain>
                """)
    }

    @Test func aMachineThatNeverGrewHasItsBaseAlone() throws {
        let memory = try DomainMemory(XMLTag(parsing: plain))
        #expect(memory.base == 256 << 20 && memory.maximum == 4 << 30 && memory.device == nil)
    }

    @Test func theDeviceIsNotPartOfTheBase() throws {
        let memory = try DomainMemory(XMLTag(parsing: grown))
        #expect(memory.base == 256 << 20)
        let device = try #require(memory.device)
        #expect(device.size == 3840 << 20 && device.requested == 256 << 20 && device.current == 128 << 20)
        let request = device.requesting(512 << 20)
        #expect(DomainMemory.Device(tag: request).requested == 512 << 20 && DomainMemory.Device(tag: request).size == 3840 << 20)
        #expect(request.name == "memory" && request["alias"] == device.tag["alias"])
    }

    @Test func onlyMachinesOfTheEmulatorAreEmulated() throws {
        #expect(try DomainPointer.isEmulated(XMLTag(parsing: plain)))
        #expect(try !DomainPointer.isEmulated(XMLTag(parsing: plain.replacing("'qemu'", with: "'kvm'"))))
    }

    @Test func aDomainWithoutMemoryHasNone() {
        let memory = DomainMemory(XMLTag("domain"))
        #expect(memory.base == 0 && memory.maximum == 0 && memory.device == nil)
    }
}
