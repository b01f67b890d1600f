import GuestAgent

Boot.run()
