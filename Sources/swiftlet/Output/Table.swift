/// Columns of text, two blanks apart, each as wide as its widest cell.
struct Table {
    let header: [String]
    var rows: [[String]] = []

    init(_ header: [String]) { self.header = header }

    /// The table with a newline after each row. Cells hold no control characters afterwards, and an empty one is "-".
    func rendered() -> String {
        let lines = [header] + rows.map { $0.map { $0.isEmpty ? "-" : Terminal.printable($0) } }
        let widths = header.indices.map { column in lines.map { $0[column].count }.max() ?? 0 }
        return lines.map { line in
            var text = ""
            for (column, cell) in line.enumerated() {
                text += cell
                if column + 1 < line.count { text += String(repeating: " ", count: widths[column] - cell.count + 2) }
            }
            return text + "\n"
        }.joined()
    }
}
