import CVirgl
import Glibc
import SwiftletVersion

/// Brings up libvirglrenderer on a render node, as QEMU would for a guest with a 3D display, and ends.
///
/// GL drivers may crash or hang whoever loads them: a program of its own does, once, before a machine is given one. Status 0 and a line
/// about what it can do; or 1 and why not.
@main struct Program {
    static func main() {
        guard CommandLine.arguments.count == 2 else { fail("usage: swiftlet-virgl-probe /dev/dri/renderD128") }
        let path = CommandLine.arguments[1]
        if path == "--version" {
            print(swiftletVersion)
            exit(0)
        }
        var node = open(path, O_RDWR | O_CLOEXEC)
        guard node >= 0 else { fail("\(path): \(String(cString: strerror(errno)))") }
        var callbacks = virgl_renderer_callbacks()
        // The first version that asks for the node.
        callbacks.version = 2
        callbacks.write_fence = { _, _ in }
        callbacks.get_drm_fd = { cookie in cookie.map { dup($0.assumingMemoryBound(to: Int32.self).pointee) } ?? -1 }
        // EGL on the node itself, as QEMU does it: without surfaces it would fall back on software.
        let flags = VIRGL_RENDERER_USE_EGL
        let result = virgl_renderer_init(&node, flags, &callbacks)
        guard result == 0 else { fail("virgl_renderer_init fails on \(path) (\(result))") }
        // The capability sets of OpenGL, the newer first.
        for set: UInt32 in [2, 1] {
            var (version, size): (UInt32, UInt32) = (0, 0)
            virgl_renderer_get_cap_set(set, &version, &size)
            guard size > 0 else { continue }
            print("capability set \(set), version \(version)")
            exit(0)
        }
        fail("the renderer on \(path) has no capability set")
    }

    private static func fail(_ reason: String) -> Never {
        let line = Array("\(reason)\n".utf8)
        _ = write(STDERR_FILENO, line, line.count)
        exit(1)
    }
}
