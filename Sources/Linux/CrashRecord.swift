import CLinux
import Errors
import Glibc
import Synchronization

/// Notes whose data a thread is working on, in memory that outlives the process's crash: the next process knows whom to set apart.
///
/// A mark costs two writes to thread-local memory. An end without a crash, kill -9 among them, accuses nobody.
public final class CrashRecord: Sendable {
    /// How the process before this one crashed.
    public struct Crash: Sendable, Equatable {
        /// SIGILL, SIGSEGV, ...
        public var signal: Int32
        /// On whose data the thread worked that crashed; or who was alone at two crashes in a row.
        public var culprit: String?
        /// Processes in a row that crashed, the one before this one included.
        public var crashesInARow: Int

        public init(signal: Int32, culprit: String? = nil, crashesInARow: Int = 1) {
            self.signal = signal
            self.culprit = culprit
            self.crashesInARow = crashesInARow
        }
    }

    /// Nil when the process before ended otherwise.
    public let last: Crash?
    private let record: Mapping
    private let free: Mutex<[Int32]>

    private static let version: UInt64 = 2

    /// Reads what the process before has left and begins anew. One record a process.
    ///
    /// - Parameter path: made if it is missing; one of another version is begun anew.
    public init(path: String) throws(SwiftletError) {
        record = try Mapping(path: path)
        let memory = record.memory
        if memory.pointee.version == Self.version, memory.pointee.signal != 0 {
            memory.pointee.crashes = max(memory.pointee.crashes, 0) &+ 1
            last = Self.crash(memory)
        } else {
            memory.pointee.crashes = 0
            memory.pointee.suspect = clinux_crash_name()
            last = nil
        }
        let slots = Int32(0)..<Int32(CLINUX_CRASH_SLOTS)
        for slot in slots { clinux_crash_slot(memory, slot)?.pointee = clinux_crash_name() }
        (memory.pointee.signal, memory.pointee.accused, memory.pointee.alone) = (0, 0, 0)
        memory.pointee.version = Self.version
        free = Mutex(slots.reversed())
        guard clinux_note_crashes(memory) == 0 else { throw .system("note crashes") }
    }

    /// Who was alone is a suspect at first: something else may have crashed at that moment.
    private static func crash(_ memory: UnsafeMutablePointer<clinux_crash_record>) -> Crash {
        var culprit = name(memory, memory.pointee.accused)
        let before = text(memory.pointee.suspect)
        let alone = name(memory, memory.pointee.alone)
        if culprit == nil, let alone, alone == before { culprit = alone }
        memory.pointee.suspect = alone.map(stored) ?? clinux_crash_name()
        return Crash(signal: memory.pointee.signal, culprit: culprit, crashesInARow: Int(memory.pointee.crashes))
    }

    private static func name(_ memory: UnsafeMutablePointer<clinux_crash_record>, _ slot: Int32) -> String? {
        guard (1...Int32(CLINUX_CRASH_SLOTS)).contains(slot), let name = clinux_crash_slot(memory, slot - 1) else { return nil }
        return text(name.pointee)
    }

    private static func text(_ name: clinux_crash_name) -> String? {
        let text = withUnsafeBytes(of: name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
        return text.isEmpty ? nil : text
    }

    private static func stored(_ text: String) -> clinux_crash_name {
        var name = clinux_crash_name()
        withUnsafeMutableBytes(of: &name) { $0.copyBytes(from: text.utf8.prefix(CLINUX_CRASH_NAME - 1)) }
        return name
    }

    /// The process has lived long enough: a crash from now on is the first one in a row.
    public func endRow() {
        record.memory.pointee.crashes = 0
        record.memory.pointee.suspect = clinux_crash_name()
    }

    /// A mark for work on `name`'s data; one without effect when there is no room for it.
    ///
    /// - Parameter name: at most 71 bytes.
    public func mark(for name: String) -> CrashMark {
        guard name.utf8.count < CLINUX_CRASH_NAME, let number = free.withLock({ $0.popLast() }) else { return CrashMark() }
        clinux_crash_slot(record.memory, number)?.pointee = Self.stored(name)
        return CrashMark(slot: number + 1, record: self)
    }

    fileprivate func release(_ slot: Int32) {
        clinux_crash_slot(record.memory, slot - 1)?.pointee = clinux_crash_name()
        free.withLock { $0.append(slot - 1) }
    }

    fileprivate func setAlone(_ slot: Int32) { record.memory.pointee.alone = slot }

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
            let result = posix_fallocate(descriptor, 0, off_t(size))
            guard result == 0 else { throw .system("allocate \(path)", errno: result) }
            guard let memory = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), memory != MAP_FAILED else {
                throw .system("map \(path)")
            }
            self.memory = memory.bindMemory(to: clinux_crash_record.self, capacity: 1)
        }
    }
}

/// Stands for one tenant in a ``CrashRecord``, as long as it lives.
public final class CrashMark: Sendable {
    /// Counted from 1; 0 for none.
    private let slot: Int32
    private let record: CrashRecord?

    fileprivate init(slot: Int32, record: CrashRecord) {
        self.slot = slot
        self.record = record
    }

    /// One without effect.
    public init() {
        slot = 0
        record = nil
    }

    deinit { record?.release(slot) }

    /// Works on the tenant's data: a crash of this thread accuses the tenant.
    public func during<Value, Failure: Error>(_ work: () throws(Failure) -> Value) throws(Failure) -> Value {
        let before = clinux_crash_enter(slot)
        defer { _ = clinux_crash_enter(before) }
        return try work()
    }

    /// Nobody else's data is worked on during `work`: a crash of any thread makes the tenant a suspect. One tenant at a time.
    public func alone(_ work: () async -> Void) async {
        record?.setAlone(slot)
        await work()
        record?.setAlone(0)
    }
}
