import AgentProtocol
import CLinux
import DiskFormats
import Errors
import Foundation
import Glibc
import Linux
import Runtime
import SwiftProtobuf
import TTRPC

@testable import AgentClient
@testable import GuestAgent
@testable import Images
@testable import Logs
@testable import MicroVMRuntime
@testable import PodNetwork
@testable import Volumes
@testable import VsockDevice

/// One reader of bytes that somebody hostile has chosen. It ends in a value or an error, within its budget, whatever they are.
struct FuzzTarget: Sendable {
    let name: String
    let run: @Sendable ([UInt8]) -> Void

    static let all: [FuzzTarget] = [
        FuzzTarget(name: "layer", run: layer), FuzzTarget(name: "archive", run: archive), FuzzTarget(name: "manifest", run: manifest),
        FuzzTarget(name: "reference", run: reference), FuzzTarget(name: "ttrpc", run: ttrpc), FuzzTarget(name: "output", run: output),
        FuzzTarget(name: "answers", run: answers), FuzzTarget(name: "rings", run: rings), FuzzTarget(name: "network", run: network),
        FuzzTarget(name: "log", run: log), FuzzTarget(name: "seccomp", run: seccomp), FuzzTarget(name: "mounts", run: mounts),
        FuzzTarget(name: "users", run: users), FuzzTarget(name: "vhost", run: vhost), FuzzTarget(name: "spdy", run: StreamFuzz.spdy),
        FuzzTarget(name: "spdyclient", run: StreamFuzz.spdyClient),
        FuzzTarget(name: "headers", run: StreamFuzz.headers), FuzzTarget(name: "websocket", run: StreamFuzz.webSocket),
        FuzzTarget(name: "portforward", run: StreamFuzz.portForward), FuzzTarget(name: "resize", run: StreamFuzz.resize),
        FuzzTarget(name: "base64", run: StreamFuzz.base64), FuzzTarget(name: "control", run: ControlFuzz.control),
        FuzzTarget(name: "streams", run: ChannelFuzz.streams), FuzzTarget(name: "frames", run: ChannelFuzz.frames),
        FuzzTarget(name: "collection", run: CollectionFuzz.collection), FuzzTarget(name: "annotations", run: SeedFuzz.annotations),
        FuzzTarget(name: "yaml", run: SeedFuzz.yaml), FuzzTarget(name: "disk", run: disk),
        FuzzTarget(name: "dhcp", run: AddressFuzz.dhcp), FuzzTarget(name: "ipv6", run: AddressFuzz.ipv6),
    ]

    /// Files in memory, of this process.
    private static func withFiles(_ bytes: [UInt8], _ body: (_ input: BlobSource, _ output: String) throws -> Void) {
        let directory = "/dev/shm/swiftlet-fuzz-\(getpid())-\(UInt64.random(in: 0 ... .max))"
        guard mkdir(directory, 0o700) == 0 else { return }
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let input = directory + "/input"
        guard FileManager.default.createFile(atPath: input, contents: Data(bytes)) else { return }
        try? body(BlobSource(path: input, offset: 0, length: UInt64(bytes.count)), directory + "/output")
    }

    // MARK: Images and registries

    private static let limits = LayerLimits(
        entries: 1000, nodes: 5000, nameBytes: 1 << 20, steps: 100_000, bytes: 16 << 20, xattrBytes: 1 << 20, diskReserve: 0)

    private static func layer(_ bytes: [UInt8]) {
        withFiles(bytes) { input, output in
            let result = try LayerConverter(limits: limits).convert(input, compression: nil, to: output)
            precondition(result.entries <= limits.entries)
            var status = stat()
            precondition(stat(output, &status) == 0 && UInt64(status.st_size) == result.sizeBytes)
        }
    }

    private static func archive(_ bytes: [UInt8]) {
        withFiles(bytes) { input, output in
            let archive = try ImageArchive(path: input.path, scratch: output, limits: limits)
            for format in imageFormats {
                for image in try format.images(in: archive, platform: .current) ?? [] {
                    _ = try ImageConfig.decode(image.config, what: "x")
                }
            }
        }
    }

    private static func manifest(_ bytes: [UInt8]) {
        let data = Data(bytes)
        if let document = try? ManifestDocument(data, contentType: nil, what: "x") {
            var search = ManifestSearch(platform: .current, cpuLevel: 3, what: "x")
            _ = search.take(document)
            while let next = try? search.next() { _ = try? Digest(next.digest) }
        }
        if let config = try? ImageConfig.decode(data, what: "x") {
            _ = ImageUser(config.user)
            _ = try? UserReference(parsing: config.user, "USER")
        }
        _ = RegistryFailure.detail(data)
    }

    private static func reference(_ bytes: [UInt8]) {
        let text = String(decoding: bytes, as: UTF8.self)
        if let reference = try? ImageReference(text) {
            // A tag beside a digest is not kept.
            precondition((try? ImageReference(reference.description))?.description == reference.description, "\(text)")
        }
        _ = try? Digest(text)
        _ = AuthChallenge(text)
        _ = URL(string: text).flatMap { RegistryDestinations.origin(of: $0) }
        if let user = try? UserReference(parsing: text, "USER"), case .id(let id) = user.user {
            precondition(id <= UserReference.greatestID)
        }
    }

    private static func disk(_ bytes: [UInt8]) {
        if let geometry = try? DiskGeometry(of: DiskBytes(bytes)) {
            precondition(geometry.virtualSize > 0 && geometry.virtualSize <= DiskGeometry.largestDisk)
        }
        _ = try? DiskGeometry(of: DiskBytes(bytes), saidToBe: .qcow2)
    }

    // MARK: Guests

    private static func ttrpc(_ bytes: [UInt8]) {
        var decoder = TTRPCFrameDecoder()
        let step = Int(bytes.first ?? 0) + 1
        for start in stride(from: 1, to: max(bytes.count, 1), by: step) {
            decoder.append(bytes[start..<min(start + step, bytes.count)])
            while let frame = try? decoder.next() {
                precondition(frame.payload.count <= TTRPCFrame.maximumPayload)
                _ = try? TTRPCResponse(encoded: frame.payload)
                _ = try? TTRPCRequest(encoded: frame.payload)
            }
        }
        _ = try? TTRPCResponse(encoded: bytes)
        _ = try? TTRPCRequest(encoded: bytes)
    }

    private static func output(_ bytes: [UInt8]) {
        var decoder = OutputFrameDecoder()
        decoder.append(bytes)
        while let frame = try? decoder.next() { precondition(frame.payload.count <= OutputFrame.maximumPayload) }
    }

    /// Every answer of an agent, as the host takes it.
    private static func answers(_ bytes: [UInt8]) {
        func decode<Answer: SwiftProtobuf.Message>(_ type: Answer.Type) -> Answer? { try? Answer(serializedBytes: bytes) }
        if let stats = decode(AgentGetStatsResponse.self) { _ = SandboxFigures(stats) }
        _ = decode(AgentGetInfoResponse.self)
        _ = decode(AgentStartSandboxResponse.self)
        _ = decode(AgentCreateContainerResponse.self)
        _ = decode(AgentExecResponse.self)
        _ = decode(AgentWaitResponse.self)
        _ = decode(AgentListResponse.self)
        _ = decode(AgentOpenStreamResponse.self)
    }

    /// A queue of a guest: the bytes are its memory, and the rings lie in it where they begin.
    private static func rings(_ bytes: [UInt8]) {
        let size = 64 << 10
        let file = clinux_memfd("fuzz")
        guard file >= 0, ftruncate(file, off_t(size)) == 0 else { return }
        defer { close(file) }
        pwrite(file, bytes, min(bytes.count, size), 0)
        let region = MemoryRegion(guestAddress: 0, size: UInt64(size), userAddress: 0x1000, fileOffset: 0)
        guard let memory = try? GuestMemory([region], descriptors: [file]) else { return }
        let addresses = RingAddresses(descriptors: 0x1000, available: 0x1000 + 2048, used: 0x1000 + 4096)
        guard var queue = Virtqueue(size: 128, addresses: addresses, nextAvailable: 0, memory: memory) else { return }
        let segments = SegmentList()
        let header = UnsafeMutableRawPointer.allocate(byteCount: VsockHeader.size, alignment: 8)
        defer { header.deallocate() }
        for _ in 0..<200 {
            segments.removeAll()
            guard let chain = try? queue.peek(at: 0, deviceWrites: false, memory: memory, into: segments) else { break }
            precondition(chain.segmentCount <= SegmentList.capacity && chain.length >= 0)
            for index in 0..<segments.count {
                let segment = segments.base[index]
                // Read, as the device would: outside of the mapping this ends the process.
                if segment.iov_len > 0 { _ = segment.iov_base.load(fromByteOffset: segment.iov_len - 1, as: UInt8.self) }
            }
            if chain.length >= VsockHeader.size, segments.copyOut(header, VsockHeader.size) { _ = VsockHeader(loadingFrom: header) }
            queue.advance(1)
            queue.push(head: chain.head, length: 0)
            _ = queue.publish()
        }
    }

    /// All that a QEMU sends, each message as one byte that says what comes along, one of length, and the bytes. The machine then leaves.
    private static func vhost(_ bytes: [UInt8]) {
        let directory = "/dev/shm/swiftlet-fuzz-\(getpid())-\(UInt64.random(in: 0 ... .max))"
        guard mkdir(directory, 0o700) == 0 else { return }
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let options = VsockDeviceOptions(vhostSocket: directory + "/vhost", hostSocket: directory + "/host", guestCID: 3)
        let (machine, memory, event) = (clinux_unix_socket(), clinux_memfd("fuzz"), clinux_eventfd())
        defer { for descriptor in [memory, event] { close(descriptor) } }
        guard let device = try? VsockDevice(options), ftruncate(memory, 1 << 20) == 0,
            clinux_unix_connect(machine, options.vhostSocket) == 0
        else {
            close(machine)
            return
        }
        var rest = bytes[...]
        while rest.count > 2, let what = rest.popFirst(), let length = rest.popFirst() {
            let payload = Array(rest.prefix(Int(length)))
            rest = rest.dropFirst(Int(length))
            var message = payload
            // Most bytes that are no message say nothing that the first such did not say.
            if what & 0x80 == 0, let request = payload.first {
                message = []
                for field in [UInt32(request), what & 0x40 == 0 ? 1 : 9, UInt32(payload.count - 1)] { message.append(littleEndian: field) }
                message += payload.dropFirst()
            }
            let passed = [Int32](repeating: what & 0x20 == 0 ? memory : event, count: Int(what & 0x0F))
            if clinux_send_with_fds(machine, message, message.count, passed, Int32(passed.count)) != message.count { break }
        }
        close(machine)
        _ = try? device.run()
    }

    // MARK: The node

    private static func network(_ bytes: [UInt8]) {
        let data = Data(bytes)
        if let list = try? CNINetworkList(parsing: data, file: "x") { precondition(CNINetworkList.isIdentifier(list.name)) }
        _ = try? JSONDecoder().decode(JSONValue.self, from: data)
        if let prefix = IPPrefix(String(decoding: bytes, as: UTF8.self)) { precondition(prefix.length <= prefix.address.bytes.count * 8) }
    }

    private static func log(_ bytes: [UInt8]) {
        var position = LogPosition()
        let taken = position.advance(over: bytes)
        precondition(taken <= bytes.count && position.stdout + position.stderr <= UInt64(bytes.count))
    }

    private static func seccomp(_ bytes: [UInt8]) {
        guard let document = try? JSONDecoder().decode(SeccompDocument.self, from: Data(bytes)) else { return }
        _ = try? document.message()
    }

    private static func mounts(_ bytes: [UInt8]) { _ = MountTable(text: bytes) }

    private static func users(_ bytes: [UInt8]) {
        let halves = bytes.split(separator: 0, maxSplits: 1, omittingEmptySubsequences: false).map { Array($0) }
        let database = UserDatabase(passwd: halves[0], group: halves.last ?? [])
        for name in ["", "root", "0", "user:staff", "1000:50"] {
            _ = try? database.resolve(.with { ($0.name, $0.uid) = (name, 1000) })
        }
        _ = database.home(of: 1000)
    }
}
