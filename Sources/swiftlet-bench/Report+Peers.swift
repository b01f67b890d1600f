extension Report {
    /// What others publish of themselves: other machines and other conditions, no comparison by one run.
    private static let published: [(who: String, what: String, figure: String, source: String)] = [
        (
            "Kata Containers 2.5.2, Cloud Hypervisor", "start of a pod, mean (p99), one at a time; KVM", "900 ms (965)",
            "Kuasar, tests/benchmark/data"
        ),
        ("Kuasar, Cloud Hypervisor", "the same, same machine", "326 ms (365)", "Kuasar, tests/benchmark/data"),
        (
            "Kata Containers 2.5.2, Cloud Hypervisor", "50 pods at once, mean (p99); KVM", "1711 ms (1823)",
            "Kuasar, tests/benchmark/data"
        ),
        ("Kuasar, Cloud Hypervisor", "the same, same machine", "1006 ms (1070)", "Kuasar, tests/benchmark/data"),
        ("Kata Containers, QEMU", "start to the workload; KVM", "710 ms", "Kata, tests/metrics, CI's baseline"),
        ("Kata Containers 4.1, Dragonball", "start from a template (without it: 1.16 s); KVM", "250 ms", "Kata, release notes of 4.1.0"),
        (
            "Firecracker", "InstanceStart to /sbin/init, minimal kernel; no pod, no container; KVM", "<= 125 ms",
            "Firecracker, SPECIFICATION.md"
        ),
        ("Firecracker", "memory beyond the guest's RAM", "<= 5 MiB", "Firecracker, SPECIFICATION.md"),
        (
            "Kata Containers, QEMU", "memory of a container in a VM of its own, PSS, guest RAM included", "123 MB",
            "Kata, tests/metrics, CI's baseline"
        ),
        ("Kata Containers", "daemon's share: one shim a pod, PSS", "18 MB a pod", "Kuasar, tests/benchmark/Benchmark.md"),
        ("Kuasar", "daemon's share: one sandboxer for 50 pods, PSS", "15 MB", "Kuasar, tests/benchmark/Benchmark.md"),
    ]

    /// The run's own figures are emulated; the others' are not.
    var peers: String {
        var table = Table(["runtime", "what", "published", "source"])
        for row in Self.published { table.add(row.who, row.what, row.figure, row.source) }
        return table.markdown
            + """

            Published by the projects named, on their machines, with KVM: not measured here, and no ratio to the figures above. What
            was measured beside Swiftlet, in the same run, is containerd with runc and QEMU by itself.

            """
    }
}
