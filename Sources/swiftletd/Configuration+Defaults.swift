// Decoding with a default for every absent key; the synthesized initializers want them all.

extension KeyedDecodingContainer {
    fileprivate func value<Value: Decodable>(_ key: Key, else fallback: Value) throws -> Value {
        try decodeIfPresent(Value.self, forKey: key) ?? fallback
    }
}

extension Configuration {
    init(from decoder: any Decoder) throws {
        self.init()
        let container = try decoder.container(keyedBy: CodingKeys.self)
        endpoint = try container.value(.endpoint, else: endpoint)
        allowsTCPEndpoint = try container.value(.allowsTCPEndpoint, else: allowsTCPEndpoint)
        root = try container.value(.root, else: root)
        run = try container.value(.run, else: run)
        logLevel = try container.value(.logLevel, else: logLevel)
        cgroupDriver = try container.value(.cgroupDriver, else: cgroupDriver)
        machine = try container.value(.machine, else: machine)
        vm = try container.value(.vm, else: vm)
        pool = try container.value(.pool, else: pool)
        host = try container.value(.host, else: host)
        network = try container.value(.network, else: network)
        metrics = try container.value(.metrics, else: metrics)
        stream = try container.value(.stream, else: stream)
        logs = try container.value(.logs, else: logs)
        images = try container.value(.images, else: images)
        registries = try container.value(.registries, else: registries)
    }
}

extension Configuration.Machine {
    init(from decoder: any Decoder) throws {
        self.init()
        let container = try decoder.container(keyedBy: CodingKeys.self)
        kernel = try container.value(.kernel, else: kernel)
        initramfs = try container.value(.initramfs, else: initramfs)
        modules = try container.value(.modules, else: modules)
        tools = try container.value(.tools, else: tools)
        kernelArguments = try container.value(.kernelArguments, else: kernelArguments)
        accelerator = try container.value(.accelerator, else: accelerator)
        vsock = try container.value(.vsock, else: vsock)
        vsockBackend = try container.value(.vsockBackend, else: vsockBackend)
        libvirt = try container.value(.libvirt, else: libvirt)
        defaultMemory = try container.value(.defaultMemory, else: defaultMemory)
        defaultCPUs = try container.value(.defaultCPUs, else: defaultCPUs)
        scratchSize = try container.value(.scratchSize, else: scratchSize)
        maxScratchSize = try container.value(.maxScratchSize, else: maxScratchSize)
        bootTimeout = try container.value(.bootTimeout, else: bootTimeout)
        firstPodUID = try container.value(.firstPodUID, else: firstPodUID)
        podUIDs = try container.value(.podUIDs, else: podUIDs)
    }
}

extension Configuration.VM {
    init(from decoder: any Decoder) throws {
        self.init()
        let container = try decoder.container(keyedBy: CodingKeys.self)
        rawDevices = try container.value(.rawDevices, else: rawDevices)
    }
}

extension Configuration.Pool {
    init(from decoder: any Decoder) throws {
        self.init()
        let container = try decoder.container(keyedBy: CodingKeys.self)
        size = try container.value(.size, else: size)
        drain = try container.value(.drain, else: drain)
        shapes = try container.value(.shapes, else: shapes)
    }
}

extension Configuration.Host {
    init(from decoder: any Decoder) throws {
        self.init()
        let container = try decoder.container(keyedBy: CodingKeys.self)
        handlers = try container.value(.handlers, else: handlers)
        conmon = try container.value(.conmon, else: conmon)
        nodePods = try container.value(.nodePods, else: nodePods)
        cdiDirectories = try container.value(.cdiDirectories, else: cdiDirectories)
    }
}

extension Configuration.Host.Handler {
    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(name: try container.decode(String.self, forKey: .name))
        runtime = try container.value(.runtime, else: runtime)
        kind = try container.value(.kind, else: kind)
        options = try container.value(.options, else: options)
        namespaces = try container.value(.namespaces, else: namespaces)
    }
}

extension Configuration.Network {
    init(from decoder: any Decoder) throws {
        self.init()
        let container = try decoder.container(keyedBy: CodingKeys.self)
        configDirectory = try container.value(.configDirectory, else: configDirectory)
        template = try container.value(.template, else: template)
        pluginDirectories = try container.value(.pluginDirectories, else: pluginDirectories)
        allowsSpoofing = try container.value(.allowsSpoofing, else: allowsSpoofing)
        collectsGarbage = try container.value(.collectsGarbage, else: collectsGarbage)
    }
}

extension Configuration.Metrics {
    init(from decoder: any Decoder) throws {
        self.init()
        address = try decoder.container(keyedBy: CodingKeys.self).value(.address, else: address)
    }
}

extension Configuration.Stream {
    init(from decoder: any Decoder) throws {
        self.init()
        let container = try decoder.container(keyedBy: CodingKeys.self)
        address = try container.value(.address, else: address)
        daemon = try container.value(.daemon, else: daemon)
        certificate = try container.value(.certificate, else: certificate)
        key = try container.value(.key, else: key)
        containerSessions = try container.value(.containerSessions, else: containerSessions)
        podSessions = try container.value(.podSessions, else: podSessions)
        nodeSessions = try container.value(.nodeSessions, else: nodeSessions)
        creationTimeout = try container.value(.creationTimeout, else: creationTimeout)
        idleTimeout = try container.value(.idleTimeout, else: idleTimeout)
    }
}

extension Configuration.Logs {
    init(from decoder: any Decoder) throws {
        self.init()
        let container = try decoder.container(keyedBy: CodingKeys.self)
        bytesPerSecond = try container.value(.bytesPerSecond, else: bytesPerSecond)
        operationsPerSecond = try container.value(.operationsPerSecond, else: operationsPerSecond)
        overBudget = try container.value(.overBudget, else: overBudget)
        maxSize = try container.value(.maxSize, else: maxSize)
        maxFiles = try container.value(.maxFiles, else: maxFiles)
        collection = try container.value(.collection, else: collection)
    }
}

extension Configuration.Logs.Collection {
    init(from decoder: any Decoder) throws {
        self.init()
        let container = try decoder.container(keyedBy: CodingKeys.self)
        socket = try container.value(.socket, else: socket)
        otlpEndpoint = try container.value(.otlpEndpoint, else: otlpEndpoint)
        otlpAuthorities = try container.value(.otlpAuthorities, else: otlpAuthorities)
        otlpTimeout = try container.value(.otlpTimeout, else: otlpTimeout)
        otlpCompression = try container.value(.otlpCompression, else: otlpCompression)
        queueBytes = try container.value(.queueBytes, else: queueBytes)
    }
}

extension Configuration.Images {
    init(from decoder: any Decoder) throws {
        self.init()
        let container = try decoder.container(keyedBy: CodingKeys.self)
        maxDownloads = try container.value(.maxDownloads, else: maxDownloads)
        maxDownloadsPerRegistry = try container.value(.maxDownloadsPerRegistry, else: maxDownloadsPerRegistry)
        maxDownloadsTotal = try container.value(.maxDownloadsTotal, else: maxDownloadsTotal)
        maxConversions = try container.value(.maxConversions, else: maxConversions)
        progressTimeout = try container.value(.progressTimeout, else: progressTimeout)
        minThroughput = try container.value(.minThroughput, else: minThroughput)
        diskInspector = try container.value(.diskInspector, else: diskInspector)
        disks = try container.value(.disks, else: disks)
    }
}

extension Configuration.Disks {
    init(from decoder: any Decoder) throws {
        self.init()
        let container = try decoder.container(keyedBy: CodingKeys.self)
        prefix = try container.value(.prefix, else: prefix)
        scheme = try container.value(.scheme, else: scheme)
        translations = try container.value(.translations, else: translations)
        transports = try container.value(.transports, else: transports)
        allowsPrivate = try container.value(.allowsPrivate, else: allowsPrivate)
        allowedNetworks = try container.value(.allowedNetworks, else: allowedNetworks)
    }
}

extension Configuration.Disks.Translation {
    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(url: try container.decode(String.self, forKey: .url))
        name = try container.value(.name, else: name)
        regexp = try container.value(.regexp, else: regexp)
        transport = try container.value(.transport, else: transport)
        sha256 = try container.value(.sha256, else: sha256)
        format = try container.value(.format, else: format)
    }
}

extension Configuration.Disks.Transport {
    init(from decoder: any Decoder) throws {
        self.init()
        let container = try decoder.container(keyedBy: CodingKeys.self)
        timeout = try container.value(.timeout, else: timeout)
        maxRedirects = try container.value(.maxRedirects, else: maxRedirects)
        proxy = try container.value(.proxy, else: proxy)
        authorities = try container.value(.authorities, else: authorities)
        certificate = try container.value(.certificate, else: certificate)
        key = try container.value(.key, else: key)
        serverName = try container.value(.serverName, else: serverName)
        insecure = try container.value(.insecure, else: insecure)
    }
}

extension Configuration.Registry {
    init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        self.init(host: try container.decode(String.self, forKey: .host))
        mirrors = try container.value(.mirrors, else: mirrors)
        plainHTTP = try container.value(.plainHTTP, else: plainHTTP)
        allowedRedirects = try container.value(.allowedRedirects, else: allowedRedirects)
    }
}
