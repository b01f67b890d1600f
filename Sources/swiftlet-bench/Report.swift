import Machines

/// The page that a run writes.
struct Report {
    let results: Measurements
    let plan: BenchmarkPlan
    let machine: MachineShape
    let conditions: RunConditions
    let sizes: GuestSizes
    /// As it was typed.
    let command: String

    var markdown: String {
        [
            "# Performance\n",
            "\(origin) Ratios say more than times: \(emulation)\n",
            "## Targets\n", targets,
        ]
        .joined(separator: "\n")
            + sections([
                (.pods, "Calls", calls), (.pods, "Cold start", coldStart), (.pool, "Starts and the pool", starts),
                (.sessions, "Sessions", sessions), (.logs, "Logs", logs),
                (.vm, "Virtual machines", virtualMachines), (.host, "Pods on the node", host), (.memory, "Memory", memory),
                (nil, "The guest", guest),
                (.pods, "Published by others", peers),
                (nil, "How it was measured", method),
            ])
    }

    private var origin: String {
        guard plan.sections.count < Section.allCases.count else { return "One run of `make bench`, which replaces this page." }
        return "A run of a part of the benchmark (\(plan.sections.map(\.rawValue).sorted().joined(separator: ", ")))."
    }

    /// What was not measured has no section. Lists are among the calls.
    private func sections(_ all: [(section: Section?, title: String, text: String)]) -> String {
        all.filter { one in one.section.map { plan.sections.contains($0) || $0 == .pods && plan.sections.contains(.lists) } ?? true }
            .map { "\n## \($0.title)\n\n\($0.text)" }.joined()
    }

    private var emulation: String {
        machine.accelerator == .kvm
            ? "the guests ran under KVM on the machine below."
            : "the guests are emulated (TCG) on the machine\nbelow, which has no KVM that works, while containerd's containers "
                + "run natively there. Under KVM a guest is\nseveral times faster."
    }

    private var targets: String {
        var table = Table(["target", "measured", "verdict"])
        let isWhole = plan.sections.count == Section.allCases.count
        for target in Target.all(results) where isWhole || target.isMet != nil {
            table.add(target.promise, target.measured, target.verdict)
        }
        return table.markdown
    }

    private var calls: String {
        var table = Table(["ms", "swiftlet p50", "p90", "n", "containerd p50", "p90", "n", "ratio of p50"])
        for operation in Operation.calls {
            let (swiftlet, containerd) = (results[.swiftlet, operation], results[.containerd, operation])
            guard swiftlet != nil || containerd != nil else { continue }
            table.add(
                name(operation), Figures.milliseconds(swiftlet?.p50), Figures.milliseconds(swiftlet?.p90), count(swiftlet),
                Figures.milliseconds(containerd?.p50), Figures.milliseconds(containerd?.p90), count(containerd),
                Figures.ratio(results.ratio(.swiftlet, operation, to: .containerd)))
        }
        return table.markdown
    }

    private func name(_ operation: Operation) -> String {
        switch operation {
        case .listFew: "ListContainers of \(results.fewContainers)"
        case .listMany: "ListContainers of \(results.manyContainers)"
        default: operation.rawValue
        }
    }

    private var coldStart: String {
        var table = Table(["ms", "p50", "p90", "n", "ratio of p50"])
        let (raw, pod) = (results[.qemu, .boot], results[.swiftlet, .runPodSandbox])
        table.add(Operation.boot.rawValue, Figures.milliseconds(raw?.p50), Figures.milliseconds(raw?.p90), count(raw), Figures.ratio(1))
        table.add(
            "RunPodSandbox, cold", Figures.milliseconds(pod?.p50), Figures.milliseconds(pod?.p90), count(pod),
            Figures.ratio(results.ratio(.swiftlet, .runPodSandbox, to: .qemu, .boot)))
        let agent = results[.qemu, .listening]
        table.add(
            Operation.listening.rawValue, Figures.milliseconds(agent?.p50), Figures.milliseconds(agent?.p90), count(agent),
            Figures.ratio(results.ratio(.qemu, .listening, to: .qemu, .boot)))
        return table.markdown
    }

    private var memory: String {
        var table = Table(["MiB", "swiftlet", "containerd"])
        let (swiftlet, containerd) = (results.memory[.swiftlet], results.memory[.containerd])
        func add(_ what: String, _ figure: (MemoryFigures) -> UInt64?) {
            table.add(what, Figures.mebibytes(swiftlet.flatMap(figure)), Figures.mebibytes(containerd.flatMap(figure)))
        }
        add("daemon, RSS, no pods yet") { $0.daemonIdle }
        if let pods = (swiftlet ?? containerd)?.pods, pods > 0 {
            add("daemon, RSS, \(pods) pods") { $0.daemonWithPods }
            add("daemon, PSS, \(pods) pods") { $0.daemonProportional }
            add("swiftlet-streamd, RSS, \(pods) pods") { $0.streamsWithPods > 0 ? $0.streamsWithPods : nil }
            add("shims, sum of RSS, \(pods) pods") { $0.helpers > 0 ? $0.helpers : nil }
            add("one pod, PSS") { $0.perPod }
            add("one pod, PSS beyond guest RAM") { $0.perPod - $0.sharedMemoryPerPod }
        }
        return table.markdown
            + """

            A pod is QEMU and swiftlet-vsockd, or a shim with its sandbox and container processes. Guest RAM
            (\(machine.memory) MiB) counts as far as the guest has touched it. swiftletd's PSS includes its reaper, a fork that
            stays behind for the libvirt inside it and shares its pages.

            """
    }

    private var guest: String {
        var table = Table(["MiB", "size"])
        table.add("swiftlet-agent", Figures.mebibytes(sizes.agent))
        table.add("initramfs", Figures.mebibytes(sizes.initramfs))
        table.add("kernel", Figures.mebibytes(sizes.kernel))
        return table.markdown
    }

    private var method: String {
        let versions = (Subject.allCases.compactMap { results.versions[$0] } + conditions.versions).joined(separator: "; ")
        let texts: [(section: Section?, text: String)] = [
            (
                nil,
                """
                - Date: \(conditions.date). Command: `\(command)`.
                - Machine: \(conditions.machine); \(conditions.host); load average at the start \(conditions.load).
                - Versions: \(versions).
                - Both daemons run side by side in one network namespace with one CNI configuration (bridge, host-local,
                  portmap) and one image; containerd's sandbox container is busybox, asleep. One client, on Swiftlet's own gRPC
                  module, asks both for the same pods: one container that sleeps, a log, a kubelet's labels.

                """
            ),
            (
                .pods,
                """
                - The subjects take turns: \(plan.rounds) rounds count, \(plan.warmUpRounds) before them do not. A round is one pod of
                  each runtime from RunPodSandbox to RemovePodSandbox, with \(plan.execs) ExecSyncs, and one raw QEMU. Percentiles
                  are nearest-rank.
                - Raw QEMU has the pods' processor, kernel, initramfs, RAM, vhost-user vsock and devices on q35; no libvirt, network
                  set-up or sandbox call.

                """
            ),
            (
                .pool,
                """
                - Starts to the first log line are of pods with one container that says one line and sleeps, from the call of RunPodSandbox
                  until its log has a byte, looked for every millisecond; \(plan.rounds) cold and \(plan.poolRounds) from the pool one after the
                  other, and \(plan.poolSize) at once \(plan.poolAtOnceRounds) times, each in turn with containerd's. Machines of the pool have
                  \(machine.memory) MiB and one vCPU; all \(plan.poolSize) wait before each turn, and none is made
                  within two seconds after a StartContainer.

                """
            ),
            (
                .lists,
                """
                - Lists are of containers that do not run: made by CreateContainer in containerd, as copies of a record in
                  swiftletd's database. Their time ends with the reply's last byte.

                """
            ),
            (
                .sessions,
                """
                - Sessions are one client's, on Swiftlet's own SPDY and WebSocket (v4.channel.k8s.io), with a pod of each runtime that take
                  turns. Opening is from the call of Exec to the first byte that `echo` writes. Transfers are `cat` of one file of 10^6 bytes a
                  hundred times: as an exec, as a container's first process that writes to its log too, and behind a TCP server. The connections
                  are those of one port-forward to an echo server, each with 64 bytes both ways; all stay open until the last one is served.

                """
            ),
            (
                .logs,
                """
                - Logs are of four containers of one pod that run `yes`, for five seconds after two that do not count. Processor time is utime
                  and stime of the processes; what the emulated guest uses is QEMU's.

                """
            ),
            (
                .vm,
                """
                - Virtual machines are pods of the handler `vm` with the small VM of images/samples and 128 MiB, in turn with QEMU by itself: the
                  pod's own command line without libvirt's monitor, descriptors and confinement, on copies of the same disks; neither has
                  Swiftlet's agent, nor vsock. The first byte is seen in the file that QEMU writes. The console's bytes are lines of 100 without a terminal's changes; their time is by the
                  guest's clock.

                """
            ),
            (
                .host,
                """
                - Pods on the node are asked of swiftletd's handlers for runc and crun, in turn with containerd's, whose runtime is runc: \(plan.rounds)
                  rounds like those of the other calls. PSS is of \(max(plan.memoryPods, 1)) pods at once. crun is left out where it refuses the node's control
                  groups.

                """
            ),
        ]
        return texts.filter { one in one.section.map(plan.sections.contains) ?? true }.map(\.text).joined()
    }

    func count(_ samples: Samples?) -> String { samples.map { "\($0.count)" } ?? Figures.missing }
}
