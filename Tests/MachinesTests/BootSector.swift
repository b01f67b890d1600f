import Foundation
import Testing

/// A guest of 130 bytes: it says `BOOTED` on the first serial port, then sends back what it gets there, but for `p` (ACPI power off),
/// `r` (reset) and `c` (pvpanic's crash).
enum BootSector {
    static let greeting = "BOOTED"

    /// 16-bit x86 code, assembled from:
    ///
    ///     start:  cli; xor ax, ax; mov ds, ax; mov ss, ax; mov sp, 0x7c00; mov si, 0x7c00 + message
    ///     print:  lodsb; test al, al; jz loop; call putc; jmp print
    ///     loop:   mov dx, 0x3fd; in al, dx; test al, 1; jz loop; mov dx, 0x3f8; in al, dx
    ///             cmp al, 'p'; je off; cmp al, 'r'; je reset; cmp al, 'c'; je crash; call putc; jmp loop
    ///     off:    mov dx, 0x604; mov ax, 0x2000; out dx, ax; jmp loop
    ///     reset:  mov dx, 0xcf9; mov al, 2; out dx, al; mov al, 6; out dx, al; jmp loop
    ///     crash:  mov dx, 0x505; mov al, 1; out dx, al; jmp loop
    ///     putc:   mov ah, al; wait: mov dx, 0x3fd; in al, dx; test al, 0x20; jz wait
    ///             mov dx, 0x3f8; mov al, ah; out dx, al; ret
    ///     message: "BOOTED\r\n\0"
    private static let code = """
        fa31c08ed88ed0bc007cbe617cac84c07405e83b00ebf6bafd03eca80174f8baf803ec3c70740d3c7274123c637419e81e00ebe3ba0406b80020efebdabaf90c\
        b002eeb006eeebcfba0505b001eeebc788c4bafd03eca82074f8baf80388e0eec3424f4f5445440d0a00
        """

    /// A raw disk of this size that starts with the sector.
    static func write(to path: String, mebibytes: Int) throws {
        var sector = Data()
        var rest = Substring(code)
        while !rest.isEmpty {
            sector.append(try #require(UInt8(rest.prefix(2), radix: 16)))
            rest = rest.dropFirst(2)
        }
        sector.append(Data(count: 510 - sector.count))
        sector.append(contentsOf: [0x55, 0xAA])
        try sector.write(to: URL(filePath: path))
        #expect(truncate(path, off_t(mebibytes) << 20) == 0)
        #expect(chmod(path, 0o644) == 0)
    }
}
