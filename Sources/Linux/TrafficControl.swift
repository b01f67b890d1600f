import CLinux
import Errors
import Glibc

// Traffic control: what comes in on one device leaves by another, as far as it is let through.
extension RouteNetlink {
    /// Joins two devices of this namespace so that each sends out what the other receives. Both must be up for traffic.
    ///
    /// Everything the devices receive is taken: the namespace's own stack answers nothing that arrives on them.
    public func join(_ first: Int32, _ second: Int32) throws {
        try redirect(from: first, to: second)
        try redirect(from: second, to: first)
    }

    /// Sends all that `source` receives out of `target`; replaces what was set up on `source`'s ingress before.
    public func redirect(from source: Int32, to target: Int32) throws {
        let step = "redirecting traffic of network link \(source) to \(target)"
        try addIngress(to: source, step)
        try change(
            RTM_NEWTFILTER, flags: NLM_F_CREATE | NLM_F_EXCL, redirectFilter(from: source, to: target),
            step: "\(step): add the filter (needs the kernel's cls_u32 and act_mirred)")
    }

    /// Does with what `source` receives as the first rule says that matches, and drops the rest; replaces what was set up on
    /// `source`'s ingress before.
    public func filter(from source: Int32, _ rules: [FrameRule]) throws {
        let step = "filtering traffic of network link \(source)"
        let program = FrameProgram(rules)
        let descriptor = program.withBytes { clinux_load_classifier($0.baseAddress, UInt32(program.count)) }
        guard descriptor >= 0 else { throw SwiftletError.system("\(step): load the program") }
        defer { close(descriptor) }
        try addIngress(to: source, step)
        var body = NetlinkBody(filterHeader(of: source))
        body.attribute(Int(TCA_KIND), string: "bpf")
        body.nest(Int(TCA_OPTIONS)) { options in
            options.attribute(Int(TCA_BPF_FD), structure: UInt32(descriptor))
            options.attribute(Int(TCA_BPF_NAME), string: "swiftlet")
            options.attribute(Int(TCA_BPF_FLAGS), structure: UInt32(TCA_BPF_FLAG_ACT_DIRECT))
        }
        try change(
            RTM_NEWTFILTER, flags: NLM_F_CREATE | NLM_F_EXCL, body, step: "\(step): add the filter (needs the kernel's cls_bpf)")
    }

    private func addIngress(to source: Int32, _ step: String) throws {
        try removeRedirect(from: source)
        var qdisc = NetlinkBody(ingress(of: source))
        qdisc.attribute(Int(TCA_KIND), string: "ingress")
        try change(RTM_NEWQDISC, flags: NLM_F_CREATE | NLM_F_EXCL, qdisc, step: "\(step): add the ingress qdisc")
    }

    /// Removes the ingress qdisc with its filters; none there is success.
    public func removeRedirect(from source: Int32) throws {
        do {
            try change(RTM_DELQDISC, NetlinkBody(ingress(of: source)), step: "removing the ingress qdisc of network link \(source)")
        } catch let error as SwiftletError where [ENOENT, EINVAL].contains(error.systemErrno) {
            return
        }
    }

    private func ingress(of link: Int32) -> tcmsg {
        var header = tcmsg()
        header.tcm_ifindex = link
        header.tcm_parent = UInt32(CLINUX_TC_H_INGRESS)
        header.tcm_handle = UInt32(CLINUX_TC_INGRESS_HANDLE)
        return header
    }

    private func filterHeader(of source: Int32) -> tcmsg {
        var header = tcmsg()
        header.tcm_ifindex = source
        header.tcm_parent = UInt32(CLINUX_TC_INGRESS_HANDLE)
        // Priority in the upper half, the protocol (all of them) in network order in the lower.
        header.tcm_info = 1 << 16 | UInt32(UInt16(ETH_P_ALL).bigEndian)
        return header
    }

    /// u32 with one key that every packet matches (`match u8 0 0`), and mirred as its action.
    private func redirectFilter(from source: Int32, to target: Int32) -> NetlinkBody {
        var selector = tc_u32_sel()
        selector.flags = UInt8(TC_U32_TERMINAL)
        selector.nkeys = 1
        var selectorBytes = withUnsafeBytes(of: selector) { Array($0) }
        withUnsafeBytes(of: tc_u32_key()) { selectorBytes.append(contentsOf: $0) }

        var mirred = tc_mirred()
        mirred.action = TC_ACT_STOLEN
        mirred.eaction = TCA_EGRESS_REDIR
        mirred.ifindex = UInt32(bitPattern: target)

        var body = NetlinkBody(filterHeader(of: source))
        body.attribute(Int(TCA_KIND), string: "u32")
        body.nest(Int(TCA_OPTIONS)) { options in
            options.attribute(Int(TCA_U32_SEL), bytes: selectorBytes)
            options.nest(Int(TCA_U32_ACT)) { actions in
                actions.nest(1) { action in
                    action.attribute(Int(TCA_ACT_KIND), string: "mirred")
                    action.nest(Int(TCA_ACT_OPTIONS)) { $0.attribute(Int(TCA_MIRRED_PARMS), structure: mirred) }
                }
            }
        }
        return body
    }
}
