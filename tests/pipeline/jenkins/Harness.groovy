// Runs a declarative Jenkinsfile in place of Jenkins.
//
//   groovy Harness.groovy JENKINSFILE SCENARIOS       steps are recorded: Recorded.groovy
//   groovy Harness.groovy JENKINSFILE < BUILD         steps do their work: Executed.groovy
//
// SCENARIOS is a JSON file with a list of builds, each with a name, a branch, and faults. The output is JSON: the result of
// each build and its steps in order. BUILD is one line of JSON. Then stdout gets a line of JSON for each event, and stderr
// is the console of the build. More input, or the end of stdin, stops the build.
import groovy.json.JsonOutput
import groovy.json.JsonSlurper

File jenkinsfile = new File(args[0])
if (args.length > 1) {
  Section pipeline = Declarative.read(jenkinsfile, [:])
  List builds = new JsonSlurper().parse(new File(args[1])).collect { new Recorded((Map) it).run(pipeline) }
  println JsonOutput.toJson([outline: pipeline.outline(), builds: builds])
} else {
  Reader input = System.in.newReader()
  Map job = (Map) new JsonSlurper().parseText(input.readLine())
  Executed build = new Executed(job, System.out, System.err)
  Thread.startDaemon { input.read(); build.stop('somebody stopped it') }
  build.run(Declarative.read(jenkinsfile, System.getenv()))
}
