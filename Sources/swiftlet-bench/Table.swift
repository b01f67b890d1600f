/// A Markdown table whose columns are aligned, so that it reads well in a terminal too.
struct Table {
    private var rows: [[String]]

    init(_ header: [String]) { rows = [header] }

    /// Whether there is nothing below the header.
    var isEmpty: Bool { rows.count == 1 }

    mutating func add(_ cells: String...) {
        rows.append(cells)
    }

    /// The first column is aligned to the left, the others to the right.
    var markdown: String {
        let widths = rows[0].indices.map { column in max(3, rows.map { $0[column].count }.max() ?? 0) }
        func line(_ cells: [String]) -> String {
            let padded = cells.enumerated().map { column, cell in
                let blanks = String(repeating: " ", count: widths[column] - cell.count)
                return column == 0 ? cell + blanks : blanks + cell
            }
            return "| " + padded.joined(separator: " | ") + " |\n"
        }
        let rule = widths.enumerated().map { column, width in
            column == 0 ? String(repeating: "-", count: width) : String(repeating: "-", count: width - 1) + ":"
        }
        return line(rows[0]) + line(rule) + rows.dropFirst().map(line).joined()
    }
}
