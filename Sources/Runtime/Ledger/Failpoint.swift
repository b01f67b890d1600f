/// Points of a pod's start and release at which tests let the work fail, hang, or end with the daemon. Release builds have none.
package enum Failpoint {
    #if DEBUG
        /// What the points of the current task, and of all that it starts, are passed to.
        @TaskLocal package static var observer: (@Sendable (_ point: String) async throws -> Void)?
    #endif

    package static func pass(_ point: @autoclosure () -> String) async throws {
        #if DEBUG
            if let observer { try await observer(point()) }
        #endif
    }

    /// Passes "before" and "after" the work; "left" where it throws.
    package static func pass<Value>(_ work: @autoclosure () -> String, around body: () async throws -> Value) async throws -> Value {
        #if DEBUG
            let work = work()
            try await pass("before \(work)")
            let value: Value
            do {
                value = try await body()
            } catch {
                try await pass("left \(work)")
                throw error
            }
            try await pass("after \(work)")
            return value
        #else
            return try await body()
        #endif
    }
}
