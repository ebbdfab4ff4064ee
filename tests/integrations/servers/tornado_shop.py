"""A web server on Tornado with two processes: tornado_shop.py PORT plain|frozen|wrong."""

from __future__ import annotations

import sys

import shop
import tornado.httpserver
import tornado.ioloop
import tornado.netutil
import tornado.process
import tornado.web


class Handler(tornado.web.RequestHandler):  # type: ignore[misc,unused-ignore]
    def get(self) -> None:
        pid, total = shop.read()
        self.write(f"{pid} {total}")


def main(port: int, way: str) -> None:
    sockets = tornado.netutil.bind_sockets(port, "127.0.0.1")
    if way == "frozen":
        import cowfreeze.integrations.tornado

        cowfreeze.integrations.tornado.fork_processes(2)
    else:
        tornado.process.fork_processes(2)
    if way == "wrong":
        import cowfreeze

        cowfreeze.freeze(dry_run=True)
        try:
            import cowfreeze.integrations.tornado

            cowfreeze.integrations.tornado.fork_processes(2)
        except cowfreeze.CowfreezeError as error:
            print(error, file=sys.stderr)
    server = tornado.httpserver.HTTPServer(tornado.web.Application([("/", Handler)]))
    server.add_sockets(sockets)
    tornado.ioloop.IOLoop.current().start()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
