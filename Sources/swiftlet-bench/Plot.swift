import Linux

/// Lines over a common horizontal axis, drawn by gnuplot.
struct Plot {
    /// One diagram; several stand below each other.
    struct Panel {
        /// With its unit: "PSS of one pod, MiB".
        var title: String
        var lines: [Line]
    }

    struct Line {
        var name: String
        var points: [(x: Double, y: Double)]
    }

    var horizontal: String
    var panels: [Panel]

    /// For gnuplot(1), which writes SVG to its standard output.
    var script: String {
        let height = 260 * panels.count
        let head = """
            set terminal svg noenhanced size 720,\(height) font "sans-serif,13" background "white"
            set multiplot layout \(panels.count),1
            set xlabel "\(Self.text(horizontal))"
            set yrange [0:*]
            set xrange [0:*]
            set grid ytics
            set key outside right top

            """
        return head + panels.map(Self.script).joined() + "unset multiplot\n"
    }

    private static func script(_ panel: Panel) -> String {
        let lines = panel.lines.map { line in "'-' with linespoints pointtype 7 title \"\(text(line.name))\"" }
        let data = panel.lines.map { line in line.points.map { "\($0.x) \($0.y)\n" }.joined() + "e\n" }
        return "set title \"\(text(panel.title))\"\nplot \(lines.joined(separator: ", "))\n" + data.joined()
    }

    /// Between gnuplot's double quotes.
    private static func text(_ string: String) -> String {
        string.replacing("\\", with: "\\\\").replacing("\"", with: "\\\"")
    }

    /// - Throws: when gnuplot is missing or refuses the script.
    func svg() async throws -> String {
        try await Spawn("/usr/bin/gnuplot", input: Array(script.utf8), outputLimit: 4 << 20).check().outputText
    }
}
