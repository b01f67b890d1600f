import CRI
import Testing

@testable import swiftlet

@Suite struct UnitsTests {
    @Test(
        arguments: [
            (0, "0B"), (999, "999B"), (1000, "1kB"), (5_270_000, "5.27MB"), (81_900_000_000, "81.9GB"), (999_600, "1MB"),
            (123_456_789, "123MB"), (2_500_000_000_000, "2.5TB"),
        ] as [(UInt64, String)])
    func sizesHaveThreeDigits(_ bytes: UInt64, _ text: String) {
        #expect(Units.size(bytes) == text)
    }

    @Test(
        arguments: [
            ("512m", 536_870_912), ("1.5g", 1_610_612_736), ("1Gi", 1_073_741_824), ("4096", 4096), ("2KiB", 2048),
        ] as [(String, Int64)])
    func memoryIsReadInPowersOf1024(_ text: String, _ bytes: Int64) {
        #expect(Units.bytes(text) == bytes)
    }

    @Test(arguments: ["", "m", "-1m", "0", "1.2.3", "5x", "99999999t"])
    func whatIsNoSizeIsRefused(_ text: String) {
        #expect(Units.bytes(text) == nil)
    }

    @Test(
        arguments: [
            (0, "0 seconds ago"), (1, "1 second ago"), (59, "59 seconds ago"), (60, "1 minute ago"), (7200, "2 hours ago"),
            (86400 * 13, "13 days ago"), (86400 * 800, "2 years ago"), (-5, "0 seconds ago"),
        ] as [(Int64, String)])
    func agesAreRounded(_ seconds: Int64, _ text: String) {
        let now: Int64 = 1_800_000_000_000_000_000
        #expect(Units.age(of: now - seconds * 1_000_000_000, now: now) == text)
    }

    @Test(
        arguments: [("30", 30_000), ("30s", 30_000), ("250ms", 250), ("1.5m", 90_000), ("2h", 7_200_000), ("1h30m", 5_400_000)]
            as [(String, Int)])
    func timesAreReadWithTheirUnit(_ text: String, _ milliseconds: Int) {
        #expect(TimeSpan(argument: text)?.duration == .milliseconds(milliseconds))
    }

    @Test(arguments: ["", "s", "0", "-3s", "1d", "inf", "nan", "1h30", "30 s", "1m-1s", "1..5s", "1e3s"])
    func whatIsNoTimeIsRefused(_ text: String) {
        #expect(TimeSpan(argument: text) == nil)
    }
}

@Suite struct TableTests {
    @Test func columnsAreAlignedAndNothingTrails() {
        var table = Table(["ID", "NAME", "X"])
        table.rows = [["a", "longer", "1"], ["└ bcd", "", ""]]
        #expect(table.rendered() == "ID     NAME    X\na      longer  1\n└ bcd  -       -\n")
    }

    @Test func aTenantsNameCannotMoveTheCursor() {
        var table = Table(["NAME"])
        table.rows = [["a\u{1B}[2J\nroot\u{202E}x"]]
        #expect(table.rendered() == "NAME\na?[2J?root?x\n")
    }

    @Test func imagesHaveARowForEachTag() {
        let image = ImageRow(
            .with {
                $0.id = "sha256:0123456789abcdef0123"
                $0.repoTags = ["localhost:5000/a/b:1", "c:latest"]
                $0.size = 1_500_000
            })
        let bare = ImageRow(
            .with {
                $0.id = "sha256:ffff"
                $0.repoDigests = ["localhost:5000/d@sha256:aa"]
            })
        #expect(
            ImageRow.table([bare, image]).rows == [
                ["localhost:5000/a/b", "1", "0123456789abc", "1.5MB"], ["c", "latest", "0123456789abc", "1.5MB"],
                ["localhost:5000/d", "", "ffff", "0B"],
            ])
    }

    @Test func podsAreShownWithTheirContainersBelow() {
        let now: Int64 = 1_800_000_000_000_000_000
        let pod = CRIPodSandbox.with {
            $0.id = "p1"
            $0.metadata.name = "web"
            $0.metadata.namespace = "default"
            $0.createdAt = now - 5_000_000_000
        }
        let containers = ["c2", "c1"].map { id in
            CRIContainer.with {
                $0.id = id
                $0.podSandboxID = "p1"
                $0.metadata.name = "n-\(id)"
                $0.state = .containerRunning
                $0.image.image = "sha256:abc"
                $0.image.userSpecifiedImage = "busybox"
            }
        }
        let listing = PodListing([pod], containers, addresses: ["p1": ["10.0.0.2"]])
        #expect(
            listing.table(now: now).rows == [
                ["p1", "default/web", "ready", "5 seconds ago", "10.0.0.2", "(default)", ""],
                ["├ c1", "n-c1", "running", "", "", "", "busybox"],
                ["└ c2", "n-c2", "running", "", "", "", "busybox"],
            ])
    }
}
