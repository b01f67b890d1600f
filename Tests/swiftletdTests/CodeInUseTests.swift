import Testing

@testable import Daemons

struct CodeInUseTests {
    private static let mebibyte = 1 << 20

    /// Each look: milliseconds of the processor since the one before, MiB of code in memory, and whether it is to be forgotten.
    @Test func whatWorkNeededIsForgottenOnceWhenItIsOver() {
        var code = CodeInUse()
        var time = Duration.zero
        let looks = [
            // The start: nothing is known yet.
            (400, 30, false), (10, 30, true), (5, 8, false), (5, 8, false), (5, 9, false),
            // Pods start, and then none does.
            (900, 25, false), (2000, 28, false), (30, 28, true), (5, 9, false), (5, 9, false),
            // A little work, whose code stays below the slack together, and at last does not.
            (20, 10, false), (20, 11, false), (20, 12, true), (5, 8, false), (5, 8, false),
            // It begins anew before the first look without.
            (20, 14, true), (800, 26, false), (800, 26, false), (20, 26, true), (20, 9, false), (20, 11, false), (20, 12, true),
        ]
        for (number, look) in looks.enumerated() {
            time += .milliseconds(look.0)
            let result = code.isMoreThanNeeded(processorTime: time, mapped: look.1 * Self.mebibyte)
            #expect(result == look.2, "look \(number)")
        }
    }

    /// So that a daemon that has nothing to do does nothing.
    @Test func nothingIsForgottenAgainAsLongAsTheSameComesBack() {
        var code = CodeInUse()
        let forgotten = (1...1000).filter { code.isMoreThanNeeded(processorTime: .milliseconds(5 * $0), mapped: 9 * Self.mebibyte) }
        #expect(forgotten == [1])
    }
}
