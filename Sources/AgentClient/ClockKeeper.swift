import AgentProtocol
import Errors
import Linux

/// Keeps one guest's wall clock at the host's: guests lose time when the host is busy and while they are paused, and nothing in
/// them asks anybody else.
///
/// The guest's answer carries no time: what it says of its clock changes nothing here.
public struct ClockKeeper: Sendable {
    /// A connection to the agent; nil when there is none any more.
    public typealias Connect = @Sendable () async throws -> AgentClient?

    /// From one call to the next on average; each pause is up to a fifth longer or shorter, so that the guests of a node do not all
    /// take their turn at once.
    public static let interval = Duration.seconds(30)
    /// An answer that takes longer has set a time that is late by now: it is set again at once. So a guest that was paused has its
    /// time right as soon as it goes on.
    private static let stale = Duration.milliseconds(500)
    /// How often it is set again at once, whatever the guest does.
    private static let mostRepeats = 3
    /// How long one call waits for a guest that is paused. No second call is made meanwhile: it would only carry an old time too.
    private static let patience = Duration.seconds(3600)
    /// After a lost connection.
    private static let pause = Duration.seconds(1)

    private let interval: Duration
    private let now: @Sendable () -> Int64
    private let connect: Connect

    /// - Parameter now: Unix time in nanoseconds.
    public init(interval: Duration = Self.interval, now: @escaping @Sendable () -> Int64, connect: @escaping Connect) {
        self.interval = interval
        self.now = now
        self.connect = connect
    }

    /// Sets the guest's clock time and again, until there is no connection any more or the task is cancelled.
    ///
    /// - Parameter atOnce: begin without a pause.
    public func run(atOnce: Bool) async {
        var repeats = 0
        var wait = atOnce ? .zero : nextPause
        while (try? await Task.sleep(for: wait)) != nil {
            do {
                guard let client = try await connect() else { return }
                let began = ContinuousClock.now
                _ = try await client.call(.setTime, .with { $0.timeNs = now() }, timeout: Self.patience)
                repeats = .now - began > Self.stale && repeats < Self.mostRepeats ? repeats + 1 : 0
                wait = repeats == 0 ? nextPause : .zero
            } catch let error as SwiftletError where error.code == .unavailable {
                wait = min(Self.pause, interval)
            } catch {
                // What the guest answers is its own affair: it is asked no more often for that.
                wait = nextPause
            }
        }
    }

    private var nextPause: Duration { interval * Double.random(in: 0.8...1.2) }
}
