/// The version of all of Swiftlet's programs, which are released together (https://semver.org).
public let swiftletVersion = "0.1.0"
