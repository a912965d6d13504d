"""The mirror with its built-in defaults, for `twistd -ny mirrord.tac`."""

from twisted.application.service import Application

from mirrord.tap import Options, makeService

options = Options()
options.parseOptions([])
application = Application("mirrord")
makeService(options).setServiceParent(application)
