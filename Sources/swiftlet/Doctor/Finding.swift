/// What one check found. Its JSON form is part of the command's interface.
struct Finding: Encodable, Equatable, Sendable {
    enum Verdict: String, Encodable, Sendable {
        case ok
        /// Pods run, but worse than they could.
        case warn
        /// Pods do not run.
        case fail
    }

    let check: String
    let verdict: Verdict
    let found: String
    /// What to do about it; empty when all is well.
    let advice: String

    static func ok(_ check: String, _ found: String) -> Finding {
        Finding(check: check, verdict: .ok, found: found, advice: "")
    }

    static func warn(_ check: String, _ found: String, _ advice: String) -> Finding {
        Finding(check: check, verdict: .warn, found: found, advice: advice)
    }

    static func fail(_ check: String, _ found: String, _ advice: String) -> Finding {
        Finding(check: check, verdict: .fail, found: found, advice: advice)
    }
}

extension [Finding] {
    /// A line a finding, and one below it for what to do.
    var text: String {
        let width = map(\.check.count).max() ?? 0
        return map { finding in
            let mark = finding.verdict.rawValue.padded(to: 4)
            let line = "\(mark)  \(finding.check.padded(to: width))  \(Terminal.oneLine(finding.found))\n"
            let indent = String(repeating: " ", count: width + 8)
            return finding.advice.isEmpty ? line : line + "\(indent)→ \(Terminal.oneLine(finding.advice))\n"
        }.joined()
    }
}

extension String {
    fileprivate func padded(to width: Int) -> String { self + String(repeating: " ", count: Swift.max(0, width - count)) }
}
