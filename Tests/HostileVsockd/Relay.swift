import Foundation
import Glibc
import TTRPC

/// What becomes of the bytes that an agent sends.
enum Mode: String {
    case honest
    /// Nothing of them arrives.
    case silence
    /// The connection ends after its greeting.
    case hangup
    /// Noise arrives.
    case garbage
    /// Answers to calls that nobody made arrive, without end.
    case flood
    /// Frames arrive that announce 4 GiB.
    case lengths
    /// Answers arrive for other calls.
    case ids
    /// One byte arrives in 20 ms.
    case drip
    /// All numbers of answers are absurd.
    case absurd
    /// All words of answers are long and unprintable.
    case words
}

/// One connection of the daemon to a port of the guest.
final class Relay: Sendable {
    private let client: Int32
    private let guest: Int32
    private let modeFile: String

    init(client: Int32, guest: String, modeFile: String) {
        self.client = client
        self.guest = UnixSocket.connect(guest)
        self.modeFile = modeFile
    }

    private var mode: Mode {
        let text = (try? String(contentsOfFile: modeFile, encoding: .utf8)) ?? ""
        return Mode(rawValue: text.trimmingCharacters(in: .whitespacesAndNewlines)) ?? .honest
    }

    func run() {
        guard guest >= 0 else { return end() }
        Thread.detachNewThread { [self] in
            while let bytes = UnixSocket.read(client) {
                guard UnixSocket.write(guest, bytes) else { return end() }
            }
            shutdown(guest, Int32(SHUT_WR))
        }
        // A guest that sends no more may still receive: acknowledgements of its last bytes, say.
        if fromGuest() { shutdown(client, Int32(SHUT_WR)) } else { end() }
    }

    private func end() {
        shutdown(client, Int32(SHUT_RDWR))
        if guest >= 0 { shutdown(guest, Int32(SHUT_RDWR)) }
        // Both threads may still use them: left to the process's end, which comes with the machine's.
    }

    /// False when the connection is to end.
    private func fromGuest() -> Bool {
        var (greeted, decoder, random) = (false, TTRPCFrameDecoder(), SystemRandomNumberGenerator())
        while let bytes = UnixSocket.read(guest) {
            if !greeted {
                greeted = true
                guard UnixSocket.write(client, bytes) else { return false }
                switch mode {
                case .hangup: return false
                case .flood: return flood()
                default: continue
                }
            }
            switch mode {
            case .honest: guard UnixSocket.write(client, bytes) else { return false }
            case .silence: continue
            case .hangup: return false
            case .flood: return flood()
            case .garbage:
                guard UnixSocket.write(client, bytes.map { _ in UInt8.random(in: 0...255, using: &random) }) else { return false }
            case .lengths: guard UnixSocket.write(client, [0xFF, 0xFF, 0xFF, 0xFF] + bytes.dropFirst(4)) else { return false }
            case .drip:
                for byte in bytes {
                    guard UnixSocket.write(client, [byte]) else { return false }
                    usleep(20_000)
                }
            case .ids, .absurd, .words:
                decoder.append(bytes)
                guard forge(&decoder, mode) else { return false }
            }
        }
        return true
    }

    /// Output streams have other frames: they pass as they are, since no whole ttrpc frame is found in them.
    private func forge(_ decoder: inout TTRPCFrameDecoder, _ mode: Mode) -> Bool {
        do {
            while var frame = try decoder.next() {
                if mode == .ids { frame.stream ^= 2 } else { frame.payload = Forgery(mode).forged(frame.payload, depth: 0) }
                guard UnixSocket.write(client, try frame.encoded()) else { return false }
            }
            return true
        } catch {
            return false
        }
    }

    private func flood() -> Bool {
        var stream: UInt32 = 1
        while let frame = try? TTRPCFrame(stream: stream, kind: .response, payload: [UInt8](repeating: 0, count: 100)).encoded() {
            guard UnixSocket.write(client, frame) else { break }
            stream &+= 2
        }
        return false
    }
}

/// Changes a protobuf message whose schema is not known: what parses as a message is one.
struct Forgery {
    private let mode: Mode

    init(_ mode: Mode) { self.mode = mode }

    private static let numbers: [UInt64] = [.max, 1 << 63, (1 << 63) - 1, 1 << 32, (1 << 31) - 1, 1 << 31, .max - 7]

    func forged(_ bytes: [UInt8], depth: Int) -> [UInt8] { parsed(bytes, depth) ?? bytes }

    private func parsed(_ bytes: [UInt8], _ depth: Int) -> [UInt8]? {
        var (rest, result) = (bytes[...], [UInt8]())
        while !rest.isEmpty {
            guard let tag = Self.varint(&rest), tag >> 3 != 0, tag >> 3 < 1000 else { return nil }
            result += Self.encoded(tag)
            switch tag & 7 {
            case 0:
                guard let value = Self.varint(&rest) else { return nil }
                result += Self.encoded(mode == .absurd ? Self.numbers.randomElement() ?? .max : value)
            case 1, 5:
                let size = tag & 7 == 1 ? 8 : 4
                guard rest.count >= size else { return nil }
                result += mode == .absurd ? [UInt8](repeating: 0xFF, count: size) : Array(rest.prefix(size))
                rest = rest.dropFirst(size)
            case 2:
                guard let length = Self.varint(&rest), length <= UInt64(rest.count) else { return nil }
                let value = field(Array(rest.prefix(Int(length))), depth)
                rest = rest.dropFirst(Int(length))
                result += Self.encoded(UInt64(value.count)) + value
            default: return nil
            }
        }
        return result
    }

    private func field(_ value: [UInt8], _ depth: Int) -> [UInt8] {
        let isText = value.allSatisfy { $0 >= 32 && $0 < 127 }
        if !isText, depth < 10, let message = parsed(value, depth + 1) { return message }
        guard mode == .words, isText, !value.isEmpty else { return value }
        return Array("\u{1B}[2J\r\n2026-01-01 error forged \u{9B}\u{202E}".utf8) + [UInt8](repeating: 120, count: 100_000)
    }

    private static func varint(_ bytes: inout ArraySlice<UInt8>) -> UInt64? {
        var value: UInt64 = 0
        for shift in stride(from: UInt64(0), to: 70, by: 7) {
            guard let byte = bytes.popFirst() else { return nil }
            value |= shift < 64 ? UInt64(byte & 0x7F) << shift : 0
            if byte & 0x80 == 0 { return value }
        }
        return nil
    }

    private static func encoded(_ value: UInt64) -> [UInt8] {
        var (value, result) = (value, [UInt8]())
        while value >= 0x80 {
            result.append(UInt8(value & 0x7F) | 0x80)
            value >>= 7
        }
        return result + [UInt8(value)]
    }
}
