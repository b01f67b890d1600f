import Dispatch
import Glibc
import Synchronization

/// Signals as events instead of sudden death, for as long as the object lives.
final class Interrupts: Sendable {
    private let received = Mutex<Int32?>(nil)
    private let numbers: [Int32]
    // Dispatch sources may be used from any thread; the array is never changed.
    private nonisolated(unsafe) let sources: [any DispatchSourceSignal]

    /// The first signal that came.
    var signal: Int32? { received.withLock { $0 } }

    /// - Parameter each: called with each signal, and whether it is the first.
    init(_ numbers: [Int32], each: @escaping @Sendable (Int32, Bool) -> Void) {
        self.numbers = numbers
        for number in numbers { Glibc.signal(number, SIG_IGN) }
        sources = numbers.map { DispatchSource.makeSignalSource(signal: $0, queue: .global()) }
        for (number, source) in zip(numbers, sources) {
            source.setEventHandler { [weak self] in
                guard let self else { return }
                let isFirst = received.withLock { earlier in
                    defer { earlier = earlier ?? number }
                    return earlier == nil
                }
                each(number, isFirst)
            }
            source.resume()
        }
    }

    /// SIGINT and SIGTERM.
    ///
    /// - Parameters:
    ///   - first: called once, at the first signal.
    ///   - again: called at each further one.
    convenience init(first: @escaping @Sendable () -> Void, again: @escaping @Sendable (Int32) -> Void) {
        self.init([SIGINT, SIGTERM]) { number, isFirst in
            if isFirst { first() } else { again(number) }
        }
    }

    deinit {
        for source in sources { source.cancel() }
        for number in numbers { Glibc.signal(number, SIG_DFL) }
    }
}
