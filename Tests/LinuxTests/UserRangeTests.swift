import Errors
import Testing

@testable import Linux

struct UserRangeTests {
    private let map = "         0          0 4294967295\n"

    @Test func aRangeThatNoSystemHasRoomForIsRefused() throws {
        let bad = [(65535, 1), (0, 100), (-1, 1), (100_000, 0), (100_000, -5), (4_294_967_200, 96), (100_000, 1 << 21), (.max, 2)]
        for (first, count) in bad {
            let error = #expect(throws: SwiftletError.self, "\(first) \(count)") { try UserRange(first: first, count: count) }
            #expect(error?.code == .invalidArgument && error?.message.contains("\(first)") == true)
        }
        #expect(try UserRange(first: 65536, count: 1).ids == 65536...65536)
        #expect(try UserRange(first: 4_294_967_200, count: 94).ids.upperBound == 0xFFFF_FFFD)
    }

    @Test func aRangeThatIsSomebodysIsRefused() throws {
        let range = try UserRange(first: 100_000, count: 1000)
        let free = "root:x:0:0:root:/root:/bin/sh\na:x:99999:1::/:\nb:x:101000:1::/:\n"
        let others = "a:98000:2000\nb:101000:65536\nc:0:0\n"
        #expect(range.conflict(passwd: free, subordinate: others, map: map) == nil)
        for id in [100_000, 100_999] {
            let conflict = range.conflict(passwd: free + "c:x:\(id):1::/:\n", subordinate: others, map: map)
            #expect(conflict?.contains("\(id) is user \"c\"") == true)
        }
        for ids in ["99999:2", "100999:1", "100500:10", "0:4294967295", "100000:18446744073709551615"] {
            let conflict = range.conflict(passwd: free, subordinate: others + "d:\(ids)\n", map: map)
            #expect(conflict?.contains("subordinate ids of \"d\"") == true, "\(ids)")
        }
        for map in ["", "0 0 65536\n", "100001 5 100000\n", "0 0 100999\n"] {
            #expect(range.conflict(passwd: free, subordinate: others, map: map)?.contains("namespace") == true, "\(map)")
        }
        #expect(range.conflict(passwd: free, subordinate: others, map: "0 0 101000\n") == nil)
    }

    @Test func aFreeIDIsTheNextOneUntilAllAreTaken() throws {
        let range = try UserRange(first: 100_000, count: 3)
        #expect(range.free(after: nil, taken: []) == 100_000)
        #expect(range.free(after: 100_000, taken: []) == 100_001)
        #expect(range.free(after: 100_002, taken: []) == 100_000)
        #expect(range.free(after: 7, taken: [100_000]) == 100_001)
        #expect(range.free(after: 100_000, taken: [100_001, 100_002]) == 100_000)
        #expect(range.free(after: 100_001, taken: [100_000, 100_001, 100_002]) == nil)
        #expect(range.free(after: nil, taken: [1, 2, 3, 4, 5]) == 100_000)
    }
}
