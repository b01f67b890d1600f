import CLinux
import Errors
import Glibc
import Synchronization

/// Notes whose data the process is working on, in memory that outlives its crash: the next process knows whom to set apart.
///
/// A mark costs two atomic additions. An end without a crash signal, kill -9 among them, accuses nobody.
public final class CrashRecord: Sendable {
    /// How the process before this one crashed.
    public struct Crash: Sendable, Equatable {
        /// SIGILL, SIGSEGV, ...
        public var signal: Int32
        /// Whose data it was working on at that moment.
        public var suspects: [String]
        /// Processes in a row that crashed, this one included.
        public var crashesInARow: Int

        public init(signal: Int32, suspects: [String], crashesInARow: Int = 1) {
            self.signal = signal
            self.suspects = suspects
            self.crashesInARow = crashesInARow
        }
    }

    /// Nil when the process before ended otherwise.
    public let last: Crash?
    private let record: Mapping
    private let free: Mutex<[Int]>

    private static let version: UInt64 = 1

    /// Reads what the process before has left and begins anew. One record a process.
    ///
    /// - Parameter path: made if it is missing; one of another version is begun anew.
    public init(path: String) throws(SwiftletError) {
        record = try Mapping(path: path)
        let memory = record.memory
        let slots = (0..<CLINUX_CRASH_SLOTS).map { clinux_crash_slot(memory, Int32($0)) }
        if memory.pointee.version == Self.version, memory.pointee.signal != 0 {
            memory.pointee.crashes = max(memory.pointee.crashes, 0) &+ 1
            last = Crash(
                signal: memory.pointee.signal,
                suspects: slots.compactMap { slot in slot.flatMap { $0.pointee.work > 0 ? Self.name(of: $0) : nil } },
                crashesInARow: Int(memory.pointee.crashes))
        } else {
            memory.pointee.crashes = 0
            last = nil
        }
        for slot in slots.compactMap({ $0 }) { slot.pointee = clinux_crash_slot() }
        memory.pointee.signal = 0
        memory.pointee.version = Self.version
        free = Mutex(Array(slots.indices.reversed()))
        guard clinux_note_crashes(memory) == 0 else { throw .system("note crashes") }
    }

    private static func name(of slot: UnsafeMutablePointer<clinux_crash_slot>) -> String {
        withUnsafeBytes(of: slot.pointee.name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
    }

    /// The process has lived long enough: a crash from now on is the first one in a row.
    public func endRow() { record.memory.pointee.crashes = 0 }

    /// A mark for work on `name`'s data; one without effect when there is no room for it.
    public func mark(for name: String) -> CrashMark {
        guard name.utf8.count < CLINUX_CRASH_NAME, let number = free.withLock({ $0.popLast() }),
            let pointer = clinux_crash_slot(record.memory, Int32(number))
        else { return CrashMark() }
        withUnsafeMutableBytes(of: &pointer.pointee.name) { $0.copyBytes(from: Array(name.utf8) + [0]) }
        let slot = CrashMark.Slot(pointer: pointer)
        return CrashMark(slot: slot) { self.release(slot, number) }
    }

    private func release(_ slot: CrashMark.Slot, _ number: Int) {
        slot.pointer.pointee = clinux_crash_slot()
        free.withLock { $0.append(number) }
    }

    /// A file, mapped for as long as the process lives.
    private struct Mapping: @unchecked Sendable {
        let memory: UnsafeMutablePointer<clinux_crash_record>

        init(path: String) throws(SwiftletError) {
            let descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0o600)
            guard descriptor >= 0 else { throw .system("open \(path)") }
            defer { close(descriptor) }
            let size = MemoryLayout<clinux_crash_record>.size
            guard ftruncate(descriptor, off_t(size)) == 0 else { throw .system("extend \(path)") }
            // Blocks of its own: a page that cannot be written on a full disk would crash the process by itself.
            guard posix_fallocate(descriptor, 0, off_t(size)) == 0 else { throw .system("allocate \(path)") }
            guard let memory = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), memory != MAP_FAILED else {
                throw .system("map \(path)")
            }
            self.memory = memory.bindMemory(to: clinux_crash_record.self, capacity: 1)
        }
    }
}

/// Stands for one tenant in a ``CrashRecord``, as long as it lives.
public final class CrashMark: Sendable {
    struct Slot: @unchecked Sendable {
        let pointer: UnsafeMutablePointer<clinux_crash_slot>
    }

    private let slot: Slot?
    private let release: (@Sendable () -> Void)?

    init(slot: Slot, release: @escaping @Sendable () -> Void) {
        self.slot = slot
        self.release = release
    }

    /// One without effect.
    public init() {
        slot = nil
        release = nil
    }

    deinit { release?() }

    /// Work on the tenant's data begins. Nests; each needs its ``end()``.
    public func begin() {
        if let slot { clinux_crash_work(slot.pointer, 1) }
    }

    public func end() {
        if let slot { clinux_crash_work(slot.pointer, -1) }
    }

    /// Works on the tenant's data.
    public func during<Value, Failure: Error>(_ work: () throws(Failure) -> Value) throws(Failure) -> Value {
        begin()
        defer { end() }
        return try work()
    }

    /// Works on the tenant's data. Held while the work waits: what else crashes meanwhile accuses the tenant too.
    public func during<Value: Sendable>(
        isolation: isolated (any Actor)? = #isolation, _ work: () async throws -> Value
    ) async rethrows -> Value {
        begin()
        defer { end() }
        return try await work()
    }
}
