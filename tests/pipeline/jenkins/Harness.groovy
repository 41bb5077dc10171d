// Runs a declarative Jenkinsfile as Jenkins would.
//
//   groovy Harness.groovy JENKINSFILE SCENARIOS       with recorded steps: Recorded.groovy
//   groovy Harness.groovy JENKINSFILE < BUILD         with steps that do the work: Executed.groovy
//
// SCENARIOS is a file with a list of builds in JSON, each with a name, a branch, and what goes wrong; the answer is JSON on
// stdout: how each build ended and what it did, in order. BUILD is one line of JSON; stdout gets an event in JSON a line,
// stderr the build's console. Anything more on stdin, its end included, stops the build.
import groovy.json.JsonOutput
import groovy.json.JsonSlurper

File jenkinsfile = new File(args[0])
if (args.length > 1) {
  Section pipeline = Declarative.read(jenkinsfile, [:])
  List builds = new JsonSlurper().parse(new File(args[1])).collect { new Recorded((Map) it).run(pipeline) }
  println JsonOutput.toJson([outline: pipeline.outline(), builds: builds])
} else {
  Reader told = System.in.newReader()
  Map given = (Map) new JsonSlurper().parseText(told.readLine())
  Executed build = new Executed(given, System.out, System.err)
  Thread.startDaemon { told.read(); build.stop('somebody stopped it') }
  build.run(Declarative.read(jenkinsfile, System.getenv()))
}
