"""The laptop platform: the real parts behind the stream, on 127.0.0.1, without Docker.

`settings` says where and on which ports; `jars` fetches what the parts run on; `process`
owns the processes; `parts` says what each part is, `platform` starts, watches and stops them.
"""
