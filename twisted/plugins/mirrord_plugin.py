from twisted.application.service import ServiceMaker

mirrord = ServiceMaker("mirrord", "mirrord.tap", "A container registry mirror", "mirrord")
