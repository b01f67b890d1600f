// swift-tools-version: 6.1
import PackageDescription

// Rows of the design (docs/architecture.md): programs, doors, heart, hands, ground, bedrock.
// A target depends only on rows below its own.

let protobuf = Target.Dependency.product(name: "SwiftProtobuf", package: "swift-protobuf")
let logging = Target.Dependency.product(name: "Logging", package: "swift-log")
let arguments = Target.Dependency.product(name: "ArgumentParser", package: "swift-argument-parser")
let deque = Target.Dependency.product(name: "DequeModule", package: "swift-collections")
let lifecycle = Target.Dependency.product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let metrics = Target.Dependency.product(name: "CoreMetrics", package: "swift-metrics")
let crypto = Target.Dependency.product(name: "Crypto", package: "swift-crypto")

/// The agent is one static binary: it is PID 1 of a guest that holds no shared library.
let agentLink: [LinkerSetting] = [
    .unsafeFlags(["-static-executable", "-Xlinker", "-s"], .when(configuration: .release))
]

/// One static binary of C alone: it maps no file of the node, and has not a page of Swift's.
let pauseLink: [LinkerSetting] = [.unsafeFlags(["-static-executable", "-nostartfiles", "-Xlinker", "-s"])]

/// Fuzz targets are tests, which run their corpus again; with SWIFTLET_FUZZ (scripts/fuzz) they are a program of libFuzzer's.
let fuzzed: [Target.Dependency] = [
    "AgentClient", "AgentProtocol", "CloudInit", "DHCP", "DiskFormats", "GuestAgent", "Images", "Logs", "LogCollection", "MicroVMRuntime",
    "PodNetwork", "Runtime",
    "TTRPC", "Volumes", "YAML", "StreamControl", "StreamFrames", "StreamServer", "VsockDevice", "Concurrency", "Linux", "CLinux", "Errors",
    logging, protobuf,
    .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOEmbedded", package: "swift-nio"),
    .product(name: "NIOWebSocket", package: "swift-nio"),
]
let fuzzTargets: [Target] =
    Context.environment["SWIFTLET_FUZZ"] == nil
    ? [
        .testTarget(
            name: "FuzzTests", dependencies: fuzzed + ["Support"], exclude: ["FuzzEntry.swift"], resources: [.copy("Corpus")])
    ]
    : [
        .target(name: "CFuzz", path: "Tests/CFuzz"),
        .executableTarget(
            name: "swiftlet-fuzz", dependencies: fuzzed + ["CFuzz"], path: "Tests/FuzzTests", exclude: ["Corpus", "ReplayTests.swift"],
            swiftSettings: [.unsafeFlags(["-parse-as-library", "-sanitize=fuzzer"])],
            linkerSettings: [.unsafeFlags(["-sanitize=fuzzer", "-use-ld=lld"])]),
    ]

let package = Package(
    name: "swiftlet",
    products: [
        .executable(name: "swiftletd", targets: ["swiftletd"]),
        .executable(name: "swiftlet", targets: ["swiftlet"]),
        .executable(name: "swiftlet-streamd", targets: ["swiftlet-streamd"]),
        .executable(name: "swiftlet-vsockd", targets: ["swiftlet-vsockd"]),
        .executable(name: "swiftlet-virgl-probe", targets: ["swiftlet-virgl-probe"]),
        .executable(name: "swiftlet-diskinfo", targets: ["swiftlet-diskinfo"]),
        .executable(name: "swiftlet-pause", targets: ["swiftlet-pause"]),
        .executable(name: "swiftlet-agent", targets: ["swiftlet-agent"]),
        .executable(name: "swiftlet-bench", targets: ["swiftlet-bench"]),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", exact: "1.6.0"),
        .package(url: "https://github.com/apple/swift-crypto", exact: "4.5.2"),
        .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", exact: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", exact: "2.37.6"),
        .package(url: "https://github.com/apple/swift-protobuf", exact: "1.39.0", traits: []),
        .package(url: "https://github.com/groue/GRDB.swift", exact: "7.10.0"),
        .package(url: "https://github.com/LebJe/TOMLKit", exact: "0.6.0"),
        .package(url: "https://github.com/swift-server/async-http-client", exact: "1.37.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", exact: "2.13.0"),
    ],
    targets: [
        // Programs
        .executableTarget(
            name: "swiftletd",
            dependencies: [
                "CRIServer", "Pods", "MicroVMRuntime", "NativeVMRuntime", "HostRuntime", "PodMachine", "Runtime", "Machines", "Images",
                "PodNetwork",
                "State", "GRPC", "CRI",
                "Linux", "CLinux", "Concurrency", "Errors", "Daemons", "StreamControl", "Prometheus", "SwiftletVersion", "TOMLKit",
                arguments, lifecycle, logging, metrics,
            ]),
        .executableTarget(
            name: "swiftlet",
            dependencies: [
                "StreamClient", "CRIClient", "GRPC", "CRI", "CArchive", "Linux", "CLinux", "Concurrency", "Errors", "SwiftletVersion",
                arguments,
                protobuf,
                .product(name: "NIOCore", package: "swift-nio"),
            ]),
        .executableTarget(
            name: "swiftlet-streamd",
            dependencies: [
                "StreamServer", "StreamControl", "AgentClient", "AgentProtocol", "ConsoleOutput", "Logs", "LogCollection", "Runtime",
                "Daemons",
                "SystemCalls", "CSeccomp", "Linux", "CLinux",
                "Concurrency", "Errors", "SwiftletVersion", arguments, deque, lifecycle, logging,
                .product(name: "NIOCore", package: "swift-nio"), .product(name: "NIOPosix", package: "swift-nio"),
            ]),
        .executableTarget(
            name: "swiftlet-vsockd",
            dependencies: ["VsockDevice", "SystemCalls", "CSeccomp", "CLinux", "Errors", "SwiftletVersion", arguments]),
        .executableTarget(name: "swiftlet-virgl-probe", dependencies: ["CVirgl", "SwiftletVersion"]),
        .executableTarget(
            name: "swiftlet-diskinfo",
            dependencies: ["DiskFormats", "SystemCalls", "CSeccomp", "CLinux", "Errors", "SwiftletVersion", arguments]),
        .executableTarget(name: "swiftlet-pause", linkerSettings: pauseLink),
        .executableTarget(
            name: "swiftlet-bench",
            dependencies: [
                "CRIClient", "StreamClient", "StreamFrames", "Pods", "Machines", "AgentClient", "AgentProtocol", "Runtime", "State", "CRI",
                "GRPC", "Linux", "CLinux", "Concurrency", "Errors", "SwiftletVersion", arguments, crypto, logging,
                .product(name: "NIOCore", package: "swift-nio"),
            ]),

        // Doors
        .target(
            name: "CRIServer",
            dependencies: ["Pods", "Images", "Runtime", "GRPC", "CRI", "Measures", "Linux", "Errors", protobuf, logging, metrics]),
        .target(
            name: "Prometheus",
            dependencies: [
                "CLinux", "Errors", logging, metrics,
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ]),
        .target(
            name: "StreamServer",
            dependencies: [
                "StreamFrames", "Concurrency", "Errors", crypto, logging,
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOWebSocket", package: "swift-nio"),
                .product(name: "NIOFoundationCompat", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ]),
        .target(
            name: "StreamClient",
            dependencies: [
                "StreamFrames", "Errors", crypto,
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOWebSocket", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ]),

        // Heart
        .target(
            name: "Pods",
            dependencies: [
                .product(name: "GRDB", package: "GRDB.swift"), "Images", "Runtime", "State", "Linux", "CLinux", "Concurrency", "Measures",
                "Errors", logging,
            ]),

        // Hands
        .target(
            name: "MicroVMRuntime",
            dependencies: [
                "PodMachine", "Machines", "AgentClient", "PodNetwork", "Volumes", "Runtime", "AgentProtocol", "State", "Linux", "CLinux",
                "Concurrency",
                "Measures", "Errors", crypto, logging,
            ]),
        .target(
            name: "NativeVMRuntime",
            dependencies: [
                "PodMachine", "Machines", "GuestHardware", "AgentClient", "CloudInit", "DHCP", "QemuGuestAgent", "PodNetwork", "Volumes",
                "Runtime", "State", "Linux",
                "CLinux",
                "Concurrency",
                "Errors", logging,
            ]),
        .target(
            name: "HostRuntime",
            dependencies: ["SeccompDefaults", "YAML", "Logs", "Runtime", "State", "Linux", "CLinux", "Concurrency", "Errors", logging]),
        // What the hands that run pods in machines have in common.
        .target(
            name: "PodMachine",
            dependencies: ["Machines", "PodNetwork", "Volumes", "Runtime", "State", "Linux", "Concurrency", "Errors", crypto, logging]),
        .target(name: "GuestHardware"),
        .target(
            name: "Machines", dependencies: ["GuestHardware", "CLibvirt", "Linux", "CLinux", "Concurrency", "Errors", crypto, logging]),
        // Links no libvirt: programs without machines of their own use it.
        .target(
            name: "AgentClient",
            dependencies: ["AgentProtocol", "TTRPC", "Runtime", "Linux", "CLinux", "Concurrency", "Errors", deque, logging, protobuf]),
        .target(
            name: "Images",
            dependencies: [
                "CArchive", "Runtime", "State", "Linux", "CLinux", "Concurrency", "Measures", "Errors", crypto, deque, logging,
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOFoundationCompat", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ]),
        // Not "Network": AsyncHTTPClient would take it for Apple's framework of that name (canImport).
        .target(name: "PodNetwork", dependencies: ["Runtime", "Linux", "CLinux", "Concurrency", "Errors", logging]),
        .target(name: "ConsoleOutput", dependencies: ["Runtime", "Linux", "CLinux", "Concurrency", "Errors", logging]),
        .target(name: "DHCP", dependencies: ["Runtime", "Linux", "CLinux", "Concurrency", "Errors", logging]),
        .target(name: "QemuGuestAgent", dependencies: ["CLinux", "Concurrency", "Errors"]),
        .target(name: "Logs", dependencies: ["Runtime", "CLinux", "Concurrency", "Errors", deque, logging]),
        .target(
            name: "LogCollection",
            dependencies: [
                "CZlib", "Runtime", "Concurrency", "Errors", "SwiftletVersion", deque, logging,
                .product(name: "AsyncHTTPClient", package: "async-http-client"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOFoundationCompat", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ]),
        .target(name: "Volumes", dependencies: ["Runtime", "Linux", "CLinux", "Concurrency", "Errors"]),
        .target(name: "CloudInit", dependencies: ["YAML", "GuestHardware", "CArchive", "Runtime", "Linux", "CLinux", "Errors"]),
        .target(name: "YAML", dependencies: ["CYAML", "Runtime", "Linux", "Errors"]),

        // swiftletd's and swiftlet-streamd's ends of what they say to each other.
        .target(
            name: "StreamControl", dependencies: ["TTRPC", "Runtime", "Linux", "CLinux", "Concurrency", "Errors", logging, protobuf]),

        // Contract: what heart and hands have in common
        .target(
            name: "Runtime",
            dependencies: ["State", "Linux", "Concurrency", "Errors", .product(name: "GRDB", package: "GRDB.swift")]),

        // Ground
        .target(name: "AgentProtocol", dependencies: ["Linux", "Errors", protobuf]),
        .target(name: "TTRPC", dependencies: ["Linux", "Errors"]),
        .target(name: "CRI", dependencies: [protobuf]),
        .target(name: "CRIClient", dependencies: ["GRPC", "CRI", protobuf]),
        .target(name: "GRPC", dependencies: ["CGRPC", "Errors", deque, logging, protobuf]),
        .target(name: "VsockDevice", dependencies: ["CLinux", "Errors", deque]),
        .target(name: "DiskFormats", dependencies: ["CQcow", "Errors"]),
        // Both ends of what sessions' bytes are carried by.
        .target(name: "StreamFrames", dependencies: ["CZlib", "Errors", .product(name: "NIOCore", package: "swift-nio")]),
        .target(name: "State", dependencies: ["Linux", "Errors", .product(name: "GRDB", package: "GRDB.swift")]),
        .target(name: "Linux", dependencies: ["CLinux", "Concurrency", "Errors"]),
        .target(name: "Measures", dependencies: [metrics, logging]),
        .target(name: "SystemCalls", dependencies: ["CSeccomp", "Errors"]),
        .target(name: "SeccompDefaults"),
        // What the two daemons have in common.
        .target(name: "Daemons", dependencies: ["CLinux", "Errors", logging]),

        // Bedrock: the error type, waits and threads, the version, system libraries and C shims
        .target(name: "Errors"),
        .target(name: "Concurrency", dependencies: ["Errors", deque]),
        .target(name: "SwiftletVersion"),
        .target(name: "CLinux"),
        .systemLibrary(name: "CGRPC"),
        .systemLibrary(name: "CSeccomp", pkgConfig: "libseccomp", providers: [.apt(["libseccomp-dev"])]),
        .systemLibrary(name: "CVirgl", pkgConfig: "virglrenderer", providers: [.apt(["libvirglrenderer-dev"])]),
        .systemLibrary(name: "CLibvirt", pkgConfig: "libvirt-qemu", providers: [.apt(["libvirt-dev"])]),
        .systemLibrary(name: "CQcow", pkgConfig: "libqcow", providers: [.apt(["libqcow-dev"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(name: "CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),
        .systemLibrary(name: "CArchive", pkgConfig: "libarchive", providers: [.apt(["libarchive-dev"])]),

        // The guest's side
        .executableTarget(
            name: "swiftlet-agent", dependencies: ["GuestAgent"], path: "agent/swiftlet-agent", linkerSettings: agentLink),
        .target(
            name: "GuestAgent",
            dependencies: [
                "AgentProtocol", "SeccompDefaults", "TTRPC", "CContainer", "CSeccomp", "CLinux", "Linux", "Concurrency", "Errors",
                "SwiftletVersion", protobuf,
            ],
            path: "agent/GuestAgent"),
        .target(name: "CContainer", path: "agent/CContainer"),

        // Tests
        .target(
            name: "Support", dependencies: ["Linux", "Concurrency", "Errors", crypto, logging], path: "Tests/Support"),
        .target(name: "MachineFakes", dependencies: ["Machines", "Linux", "Errors"], path: "Tests/MachineFakes"),
        .target(
            name: "StreamFakes",
            dependencies: ["StreamServer", "CLinux", "Support", "Errors", .product(name: "NIOCore", package: "swift-nio")],
            path: "Tests/StreamFakes"),
        .testTarget(name: "AgentProtocolTests", dependencies: ["AgentProtocol", "Linux", "Support", "Errors"]),
        .testTarget(
            name: "CloudInitTests", dependencies: ["CloudInit", "YAML", "GuestHardware", "CArchive", "Runtime", "Support", "Errors"],
            exclude: ["render_network.py"], resources: [.copy("Golden")]),
        .testTarget(name: "ConcurrencyTests", dependencies: ["Concurrency", "Errors"]),
        .testTarget(name: "CRIServerTests", dependencies: ["CRIServer", "Images", "Pods", "Runtime", "CRI", "GRPC", "Support", "Errors"]),
        .testTarget(name: "CRITests", dependencies: ["CRI", protobuf], exclude: ["Golden"]),
        .testTarget(name: "DiskFormatsTests", dependencies: ["DiskFormats", "swiftlet-diskinfo", "Support", "Errors"]),
        .testTarget(name: "DHCPTests", dependencies: ["DHCP", "Runtime", "Linux", "Concurrency", "Support", "Errors", logging]),
        .testTarget(name: "ErrorsTests", dependencies: ["Errors"]),
        .testTarget(name: "GRPCTests", dependencies: ["GRPC", "Support", "Errors", logging], exclude: ["foreign_client.py"]),
        .testTarget(
            name: "ImagesTests",
            dependencies: [
                "Images", "State", "Runtime", "Linux", "Concurrency", "Support", "Errors", "swiftlet-diskinfo", logging,
                .product(name: "GRDB", package: "GRDB.swift"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ], resources: [.copy("Golden")]),
        .testTarget(
            name: "HostRuntimeTests",
            dependencies: ["HostRuntime", "Runtime", "State", "Linux", "CLinux", "Concurrency", "Support", "Errors", logging],
            resources: [.copy("Golden")]),
        .testTarget(
            name: "LinuxTests", dependencies: ["Linux", "Concurrency", "Errors", "Support", "crash-fixture"], exclude: ["CrashFixture"]),
        .executableTarget(name: "crash-fixture", dependencies: ["Linux"], path: "Tests/LinuxTests/CrashFixture"),
        .testTarget(
            name: "LogCollectionTests",
            dependencies: [
                "LogCollection", "Logs", "CZlib", "Runtime", "Support", "Errors", logging,
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ]),
        .testTarget(
            name: "ConsoleOutputTests",
            dependencies: ["ConsoleOutput", "Logs", "Runtime", "Linux", "CLinux", "Concurrency", "Support", "Errors", logging]),
        .testTarget(name: "LogsTests", dependencies: ["Logs", "Runtime", "CLinux", "Concurrency", "Support", "Errors", logging]),
        .testTarget(
            name: "MachinesTests",
            dependencies: [
                "CLinux", "Machines", "GuestHardware", "Linux", "Concurrency", "Support", "Errors", "subreaper-fixture", "swiftlet-vsockd",
                "swiftlet-virgl-probe",
                logging,
            ],
            exclude: ["SubreaperFixture"], resources: [.copy("Golden")]),
        .executableTarget(name: "subreaper-fixture", dependencies: ["Linux"], path: "Tests/MachinesTests/SubreaperFixture"),
        .testTarget(
            name: "GuestAgentTests",
            dependencies: [
                "GuestAgent", "AgentProtocol", "TTRPC", "AgentClient", "Runtime", "Linux", "CLinux", "Concurrency", "Support", "Errors",
            ]),
        .testTarget(
            name: "GuestContainerTests",
            dependencies: ["GuestAgent", "AgentProtocol", "Linux", "Support", "Errors", "container-probe", protobuf]),
        .executableTarget(
            name: "container-probe", dependencies: ["GuestAgent", "AgentProtocol", "CLinux", "Errors", protobuf],
            path: "Tests/ContainerProbe"),
        .testTarget(name: "PodNetworkTests", dependencies: ["Runtime", "PodNetwork", "Linux", "Concurrency", "Errors", logging]),
        .testTarget(
            name: "PodsTests",
            dependencies: [
                "Pods", "MicroVMRuntime", "NativeVMRuntime", "PodMachine", "AgentClient", "Runtime", "Images", "Logs", "PodNetwork",
                "Volumes", "Machines",
                "MachineFakes", "CloudInit",
                "AgentProtocol",
                "TTRPC",
                "State", "Support", "Linux", "CLinux", "Concurrency", "Errors", logging,
                .product(name: "GRDB", package: "GRDB.swift"),
            ], resources: [.copy("Golden")]),
        .testTarget(
            name: "PrometheusTests",
            dependencies: ["Prometheus", "Measures", "Support", "Errors", metrics]),
        .testTarget(name: "QemuGuestAgentTests", dependencies: ["QemuGuestAgent", "CLinux", "Concurrency", "Errors"]),
        .testTarget(name: "RepositoryTests", dependencies: ["SwiftletVersion", "Support"]),
        .testTarget(
            name: "StreamClientTests",
            dependencies: [
                "StreamClient", "StreamFakes", "StreamFrames", "StreamServer", "Support", "Errors", crypto, logging,
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ]),
        .testTarget(
            name: "StreamControlTests", dependencies: ["StreamControl", "TTRPC", "Runtime", "Linux", "Support", "Errors", logging]),
        .testTarget(
            name: "StreamServerTests",
            dependencies: [
                "StreamServer", "StreamFakes", "StreamFrames", "Linux", "CLinux", "Support", "Errors", logging,
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOWebSocket", package: "swift-nio"),
            ], exclude: ["websocket_client.py"]),
        .testTarget(
            name: "swiftletTests",
            dependencies: [
                "swiftlet", "StreamClient", "StreamFakes", "StreamServer", "Support", "GRPC", "CRI", "Linux", "Concurrency", "Errors",
                protobuf,
                arguments, logging, .product(name: "NIOCore", package: "swift-nio"),
            ]),
        .testTarget(
            name: "swiftlet-streamdTests",
            dependencies: [
                "swiftlet-streamd", "StreamServer", "StreamClient", "StreamControl", "LogCollection", "ConsoleOutput", "Logs",
                "AgentClient", "Runtime", "Linux", "Support", "CLinux", "Errors", logging,
                .product(name: "NIOCore", package: "swift-nio"),
            ]),
        .testTarget(
            name: "swiftletdTests",
            dependencies: [
                "swiftletd", "MicroVMRuntime", "Machines", "Images", "Prometheus", "StreamControl", "Support", "CRIClient", "CRI", "GRPC",
                "Daemons", "Runtime", "Linux", "CLinux", "Errors",
                lifecycle, logging,
            ]),
        .testTarget(name: "swiftlet-benchTests", dependencies: ["swiftlet-bench"]),
        .testTarget(name: "TTRPCTests", dependencies: ["TTRPC", "Linux", "Support", "Errors"]),
        .testTarget(name: "VolumesTests", dependencies: ["Runtime", "Volumes", "Linux", "CLinux", "Concurrency", "Support", "Errors"]),
        .testTarget(name: "VsockDeviceTests", dependencies: ["VsockDevice", "CLinux", "Support", "Errors"]),
        .executableTarget(name: "hostile-vsockd", dependencies: ["TTRPC"], path: "Tests/HostileVsockd"),
        .testTarget(
            name: "SystemTests",
            dependencies: [
                "hostile-vsockd",
                "Support", "StreamFakes", "CloudInit", "YAML", "QemuGuestAgent", "CRIClient", "CRI", "GRPC", "Linux", "Runtime",
                "Concurrency",
                "Errors",
                protobuf,
            ]),
    ] + fuzzTargets,
    swiftLanguageModes: [.v6]
)
