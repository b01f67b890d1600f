import Runtime

/// How a guest starts Swiftlet's agent from the machine's tools disk: lines for ``SeedRequest/bootCommands``.
public enum AgentStart {
    /// The tools disk's serial number, on virtio.
    public static let serial = "tools"

    /// By systemd where it is process 1, else by a loop of the shell's. An agent that ends with 0 has nothing to serve and is left alone.
    ///
    /// The agent is executed where the disk is mounted, since /run itself is noexec in Debian. What SELinux confines by the file's type
    /// needs one that init may execute: such a guest mounts with a context.
    public static let commands: [String] = [
        "swiftlet_agent() {",
        "  d=$(swiftlet_disk \(BootScript.quoted(GuestDisk(serial: serial, bus: .virtio).deviceLink)) \(serial)) || return 0",
        "  if ! grep -qF \" \(directory) \" /proc/mounts; then",
        "    mkdir -p \(directory)",
        "    { [ -e /sys/fs/selinux/enforce ] && mount -t iso9660 -o ro,nodev,context=system_u:object_r:bin_t:s0 \"$d\" \(directory); } \\",
        "      || mount -t iso9660 -o ro,nodev,nosuid \"$d\" \(directory) || { swiftlet_say \"cannot mount the tools disk\"; return 0; }",
        "  fi",
        "  if [ -d /run/systemd/system ]; then",
        "    cat >/run/systemd/system/swiftlet-agent.service <<'END'",
        unit,
        "END",
        "    systemctl start --no-block swiftlet-agent.service 2>/dev/null \\",
        "      || { systemctl daemon-reload && systemctl start --no-block swiftlet-agent.service; } \\",
        "      || swiftlet_say \"cannot start the agent\"",
        "  else",
        "    setsid sh -c 'while ! \(program) --service; do sleep 2; done' </dev/null >/dev/console 2>&1 &",
        "  fi",
        "}",
        "swiftlet_agent",
    ]

    private static let directory = "/run/swiftlet/tools"
    private static let program = "\(directory)/swiftlet-agent"

    /// From early in the boot on, and until its end: what it runs for the host is not its own, and is left alone when it ends.
    private static let unit = """
        [Unit]
        Description=Swiftlet's agent
        DefaultDependencies=no
        Conflicts=shutdown.target
        Before=shutdown.target
        StartLimitIntervalSec=0
        [Service]
        ExecStart=\(program) --service
        Restart=on-failure
        RestartSec=2
        KillMode=process
        StandardOutput=journal+console
        StandardError=inherit
        """
}
