import Support
import Testing

@testable import swiftlet

@Suite(.timeLimit(.minutes(1))) struct DetachKeysTests {
    @Test func keysAreWrittenAsDockerHasThem() {
        #expect(DetachKeys(argument: "ctrl-p,ctrl-q") == DetachKeys.standard)
        #expect(DetachKeys(argument: "ctrl-p,ctrl-q")?.keys == [0x10, 0x11])
        #expect(
            DetachKeys(argument: "a,ctrl-A,ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_,~")?.keys == [0x61, 1, 0, 27, 28, 29, 30, 31, 0x7E])
        #expect(DetachKeys(argument: "")?.keys == [])
        for text in ["ctrl-", "ctrl-1", "ctrl-pp", "ab", "a,,b", "a,", "é", "\u{7}", "shift-a"] {
            #expect(DetachKeys(argument: text) == nil, "\(text)")
        }
    }

    /// Whatever is typed, in whatever pieces, goes on up to the first place where the keys are.
    @Test func allButTheKeysIsPassedOn() throws {
        var random = SplitMix(seed: 11)
        for list in ["a", "a,b", "a,a,b", "a,b,a,b,c", "a,b,a,a,b,a"] {
            let keys = try #require(DetachKeys(argument: list))
            for _ in 0..<2000 {
                let typed = (0..<Int.random(in: 0...30, using: &random)).map { _ in UInt8.random(in: 0x61...0x63, using: &random) }
                let place = typed.indices.first { typed[$0...].starts(with: keys.keys) }
                var watch = DetachWatch(keys)
                var (passed, isDetached) = ([UInt8](), false)
                var rest = typed[...]
                while !rest.isEmpty, !isDetached {
                    let piece = rest.prefix(Int.random(in: 1...4, using: &random))
                    rest = rest.dropFirst(piece.count)
                    let step = watch.take(piece)
                    passed += step.passed
                    isDetached = step.isDetached
                }
                if !isDetached { passed += watch.end() }
                #expect(isDetached == (place != nil) && passed == Array(typed[..<(place ?? typed.endIndex)]), "\(list) \(typed)")
            }
        }
    }

    @Test func aKeyThatMayBeginThemIsHeldBackUntilTheNext() {
        var watch = DetachWatch(.standard)
        #expect(watch.take([0x61, 0x10]) == ([0x61], false))
        #expect(watch.take([0x10]) == ([0x10], false))
        #expect(watch.take([0x62]) == ([0x10, 0x62], false))
        #expect(watch.take([0x10]) == ([], false))
        #expect(watch.take([0x11, 0x63]) == ([], true))
        var none = DetachWatch(.none)
        #expect(none.take([0x10, 0x11]) == ([0x10, 0x11], false))
    }
}
